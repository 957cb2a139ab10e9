"""A statement: what moved on an account, line by line, in words that whoever pays can read."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from functions.domain.transfer import Kind, Reason

COLUMNS = ("at", "about", "change", "balance", "reason", "kind", "job_id", "spender", "authorised_by", "id")
WHY_BACK: Mapping[str, str] = {
    Kind.FAILED: ", which failed",
    Kind.CANCELLED: ", which was called off",
    Kind.MODERATION: ", taken down by mistake",
    Kind.MISSING: ": pictures it did not make",
    Kind.DISCARD: ": a discarded picture",
}
WHY_GIVEN: Mapping[str | None, str] = {Kind.REFRESH: "free credits of ", Kind.ACHIEVEMENT: "earned: "}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One transfer as its account sees it: `change` is what it did, `balance` what it left.

    kind: the occasion, None on lines from before there were kinds. spender: the member of a team who spent its credits.
    note: the reason that an admin gave.
    """

    id: str
    reason: Reason
    kind: str | None
    change: int
    balance: int
    job_id: str | None
    undoes: str | None
    quote_id: str | None
    spender: str | None
    authorised_by: str
    at: datetime
    note: str | None = None

    @property
    def about(self) -> str:
        """What it was for."""
        by = f", by {self.spender}" if self.spender else ""
        said = f": {self.note}" if self.note else ""
        match self.reason:
            case Reason.DEBIT:
                undone = ": a discarded picture was taken back" if self.kind == Kind.UNDO else ""
                return f"job {self.job_id}{undone}{by}"
            case Reason.REFUND:
                return f"back from job {self.job_id}{WHY_BACK.get(self.kind or '', '')}{by}"
            case Reason.GRANT if self.kind in WHY_GIVEN:
                return WHY_GIVEN[self.kind] + self.id.rpartition(":grant:")[2].partition(":")[2]
            case Reason.GRANT:
                return f"granted{said}"
            case Reason.ADJUSTMENT:
                return f"{'corrected' if self.change > 0 else 'taken back'}{said}"


def as_csv(lines: Iterable[Line]) -> Iterator[str]:
    """The lines as CSV (RFC 4180) with a heading, one row at a time."""
    yield row(COLUMNS)
    for line in lines:
        yield row([getattr(line, name) for name in COLUMNS])


def row(cells: Iterable[object]) -> str:
    """One row of CSV. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    csv.writer(out).writerow([_plain(cell) for cell in cells])
    return out.getvalue()


def _plain(cell: object) -> object:
    if isinstance(cell, datetime):
        return cell.isoformat()
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
