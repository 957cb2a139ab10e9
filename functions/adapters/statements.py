"""What an account's holder is shown: its lines with a word for each, and the jobs that it has paid for and not got."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from functions.adapters import postgres
from functions.domain.job import State
from functions.domain.statement import Line
from functions.domain.transfer import Reason

PAGE = 500

LINES = """
SELECT moved.id, moved.reason, moved.kind, moved.balance, moved.job_id, moved.undoes, moved.quote_id,
       CASE WHEN moved.credit_account = moved.holder THEN moved.amount ELSE -moved.amount END AS change,
       CASE WHEN moved.holder LIKE 'pool:%' THEN coalesce(moved.spender, job.user_id) END AS spender,
       moved.authorised_by, moved.at, asked.reason AS note
FROM generator_credit_transaction AS moved
LEFT JOIN generator_job AS job ON job.id = moved.job_id
LEFT JOIN generator_credit_grant AS asked ON asked.id = moved.instruction AND moved.kind IN ('admin', 'revocation')
"""
PAGES = text(f"""{LINES}
WHERE moved.holder = :account AND (CAST(:member AS text) IS NULL OR job.user_id = :member)
  AND (CAST(:before_at AS timestamptz) IS NULL OR (moved.at, moved.id) < (:before_at, :before_id))
ORDER BY moved.at DESC, moved.id DESC LIMIT :limit
""")


def page(
    tx: Connection,
    account: str,
    *,
    member: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[Line]:
    """An account's lines, newest first, from just below `before` (a time and a transfer id); `member`: only what this
    one of a team has spent."""
    before_at, before_id = before or (None, None)
    asked = {"account": account, "member": member, "before_at": before_at, "before_id": before_id, "limit": limit}
    return [_line(row) for row in tx.execute(PAGES, asked)]


def every(account: str, *, member: str | None = None) -> Iterator[Line]:
    """All of an account's lines, newest first, however many; each page in a transaction of its own. Lines are only
    ever added, and above the first, so nothing is told twice or left out."""
    before: tuple[datetime, str] | None = None
    while True:
        with postgres.transaction() as tx:
            lines = page(tx, account, member=member, before=before, limit=PAGE)
        yield from lines
        if len(lines) < PAGE:
            return
        before = lines[-1].at, lines[-1].id


OF_JOB = text(f"{LINES} WHERE moved.job_id = :job_id AND moved.reason IN ('debit', 'refund') ORDER BY moved.at")


def of_job(tx: Connection, job_id: str) -> list[Line]:
    """What a job did to the account that paid for it, in order: the debit, and whatever came back."""
    return [_line(row) for row in tx.execute(OF_JOB, {"job_id": job_id})]


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A job that is paid for and not done: its price comes back, or becomes pictures."""

    job_id: str
    credits: int
    state: State
    spender: str
    submitted_at: datetime


HOLDS = text("""
SELECT id AS job_id, credits, state, user_id AS spender, submitted_at FROM generator_job
WHERE coalesce(payer, 'user:' || user_id) = :account AND state IN ('debited', 'queued', 'dispatching', 'in_progress')
ORDER BY submitted_at, id
""")


def holds(tx: Connection, account: str) -> list[Hold]:
    """Every job that the account has paid for and that is not done, oldest first."""
    rows = tx.execute(HOLDS, {"account": account})
    return [Hold(**dict(row._mapping) | {"state": State(row.state)}) for row in rows]


def _line(row: Row[Any]) -> Line:
    return Line(**dict(row._mapping) | {"reason": Reason(row.reason)})
