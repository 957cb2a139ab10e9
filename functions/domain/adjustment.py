"""A list of corrections, from a file or a request: one line an account, checked as a whole before any credit moves."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from functions.domain.errors import Rejected
from functions.domain.text import storable
from functions.domain.transfer import account

MOST_LINES = 10_000
MOST_CREDITS = 1_000_000_000
COLUMNS = ("user_id", "credits", "reason")


class Outcome(StrEnum):
    """What became of one line, or in a rehearsal would."""

    APPROVED = "approved"  # nobody else need say anything: the credits are about to move
    PENDING = "pending"  # it waits for a second admin
    KNOWN = "known"  # the same line of the same list was taken before; nothing moved again
    SHORT = "short"  # the account holds less than is to be taken; nothing moved


@dataclass(frozen=True, kw_only=True)
class Line:
    """One correction; `number` counts from 1, as a reader of the file counts its lines without the heading."""

    number: int
    account: str
    amount: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A whole list. `digest` tells it from every other: the same list again is the same corrections again."""

    digest: str
    lines: tuple[Line, ...]

    def id(self, line: Line) -> str:
        """What this line's grant is called, however often the list is brought."""
        return f"list-{self.digest[:16]}-{line.number}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one line; `detail` says why where that is not plain."""

    line: Line
    outcome: Outcome
    detail: str = ""


def read(data: bytes, *, reason: str) -> Listed:
    """The list in a CSV file with the columns user_id, credits and, if single lines have one of their own, reason.

    credits are whole and signed: 25 gives, -25 takes. Rejected names every line that is wrong, and then none counts.
    """
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig")), strict=True)
        named, rows = set(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Rejected("list_invalid", f"the file is no CSV in UTF-8: {error}") from None
    if not {"user_id", "credits"} <= named <= set(COLUMNS):
        raise Rejected(
            "list_invalid", f"the first line must name the columns {', '.join(COLUMNS)} (reason is optional)"
        )
    return checked(rows, reason=reason, digest=hashlib.sha256(data).hexdigest())


def checked(rows: Sequence[Mapping[str, str | None]], *, reason: str, digest: str) -> Listed:
    """These rows as a list; Rejected names every one that is wrong."""
    if not 1 <= len(rows) <= MOST_LINES:
        raise Rejected("list_invalid", f"a list has 1 to {MOST_LINES} lines; this one has {len(rows)}")
    lines, wrong = [], []
    for number, row in enumerate(rows, start=1):
        problem = _problem(row)
        if problem:
            wrong.append(f"line {number}: {problem}")
        else:
            said = (row.get("reason") or "").strip() or reason
            lines.append(
                Line(number=number, account=account(f"{row['user_id']}"), amount=int(f"{row['credits']}"), reason=said)
            )
    if wrong:
        shown = "; ".join(wrong[:20]) + (f"; and {len(wrong) - 20} more" if len(wrong) > 20 else "")
        raise Rejected("list_invalid", f"nothing was done: {shown}")
    return Listed(digest=digest, lines=tuple(lines))


def _problem(row: Mapping[str, str | None]) -> str | None:
    user_id, credits = row.get("user_id") or "", (row.get("credits") or "").strip()
    if None in row:
        return "it has more cells than there are columns"
    if not 1 <= len(user_id) <= 128 or not user_id.isprintable() or user_id != user_id.strip():
        return "user_id must be 1 to 128 printable characters"
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", credits) or not 1 <= abs(int(credits)) <= MOST_CREDITS:
        return f"credits must be a whole number other than 0, and at most {MOST_CREDITS} either way"
    said = row.get("reason") or ""
    return None if len(said) <= 500 and storable(said) else "reason may have 500 characters"


def rehearse(
    lines: Iterable[Line], *, balances: Mapping[str, int], known: frozenset[int], second: frozenset[int]
) -> list[Result]:
    """What these lines would come to, one after the other, on accounts that hold this much.

    known, second: the numbers of the lines that were taken before, and of those that one admin cannot do alone.
    """
    held = dict(balances)
    results = []
    for line in lines:
        balance = held.get(line.account, 0)
        if line.number in known:
            results.append(Result(line=line, outcome=Outcome.KNOWN))
        elif balance + line.amount < 0:
            results.append(Result(line=line, outcome=Outcome.SHORT, detail=f"it holds {balance}"))
        elif line.number in second:
            results.append(Result(line=line, outcome=Outcome.PENDING))
        else:
            held[line.account] = balance + line.amount
            results.append(Result(line=line, outcome=Outcome.APPROVED))
    return results
