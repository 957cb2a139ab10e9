"""Each line of a statement says in words what it was for."""

import csv
import io
from typing import Any

import pytest
from making import NOW

from functions.domain.statement import COLUMNS, Line, as_csv
from functions.domain.transfer import Kind, Reason


def a_line(**fields: Any) -> Line:
    plain: dict[str, Any] = dict.fromkeys(("kind", "job_id", "undoes", "quote_id", "spender"))
    plain |= {"id": "t", "reason": Reason.GRANT, "change": 5, "balance": 9, "authorised_by": "user:olga", "at": NOW}
    return Line(**plain | fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reason": Reason.DEBIT, "kind": Kind.PRICE, "job_id": "j"}, "job j"),
        ({"reason": Reason.DEBIT, "kind": Kind.PRICE, "job_id": "j", "spender": "ann"}, "job j, by ann"),
        ({"reason": Reason.DEBIT, "kind": Kind.UNDO, "job_id": "j"}, "job j: a discarded picture was taken back"),
        ({"reason": Reason.REFUND, "kind": Kind.FAILED, "job_id": "j"}, "back from job j, which failed"),
        ({"reason": Reason.REFUND, "kind": None, "job_id": "j"}, "back from job j"),
        ({"kind": Kind.REFRESH, "id": "user:ann:grant:refresh:2026-03-01"}, "free credits of 2026-03-01"),
        ({"kind": Kind.ACHIEVEMENT, "id": "user:ann:grant:achievement:first:7"}, "earned: first:7"),
        ({"kind": Kind.ADMIN, "note": "a prize"}, "granted: a prize"),
        ({"kind": None}, "granted"),
        ({"reason": Reason.ADJUSTMENT, "kind": Kind.REVOCATION, "change": -5, "note": "a slip"}, "taken back: a slip"),
        ({"reason": Reason.ADJUSTMENT, "kind": Kind.ADMIN, "note": "a slip"}, "corrected: a slip"),
    ],
)
def test_a_line_tells_what_it_was_for(fields: dict[str, Any], said: str) -> None:
    assert a_line(**fields).about == said


def test_a_statement_is_csv_that_a_spreadsheet_reads_and_does_not_run() -> None:
    lines = [a_line(authorised_by="=HYPERLINK(1)"), a_line(kind=Kind.ADMIN, note='a "prize", twice\nover')]
    rows = list(csv.DictReader(io.StringIO("".join(as_csv(lines)), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["authorised_by"] == "'=HYPERLINK(1)"
    assert rows[1]["about"] == 'granted: a "prize", twice\nover'
    assert (rows[0]["change"], rows[0]["at"]) == ("5", NOW.isoformat())
