"""Jobs against transfers, both ways: everything in the one that the other does not account for, by name.

The views `ledger_job_discrepancy` and `ledger_transfer_discrepancy` (migrations/0011_earning.sql) say what is wrong;
here they are walked a page at a time, so that a book of any length is read in bounded memory. A move and its transfer
are one commit, so nothing that is merely under way is told.
"""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, TextClause, text

from functions.adapters import measures, postgres

PAGE = 5000

#: What each name means, for whoever has to mend it.
MEANING = {
    "unpaid_render": "the job went past the till: nobody has paid for it",
    "wrong_price": "what was paid is not the job's price",
    "wrong_payer": "another account paid than the one that was to",
    "paid_and_not_taken": "the price was taken and the job never became one that is paid",
    "double_refund": "more came back than was paid",
    "refund_miscounted": "the refunds of the job do not add up to what was counted of them",
    "refund_missing": "the job ended without pictures, and its price has not come back whole",
    "refund_too_early": "credits came back while the job is still being made",
    "transfer_without_job": "the transfer names no job that there is",
    "grant_without_request": "credits came or went by an admin's name, and no admin has asked for it",
    "grant_of_another_amount": "what moved is not what was asked for",
    "grant_without_approval": "it moved though a second admin had not agreed",
    "grant_not_carried_out": "it is approved, and the credits have not moved",
}


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """One thing that is wrong: its name, what it is about, and what was found there."""

    kind: str
    job_id: str | None
    transfer_id: str | None
    grant_id: str | None
    at: datetime
    detail: str

    @property
    def meaning(self) -> str:
        return MEANING[self.kind]


@dataclass(frozen=True, kw_only=True)
class Walked:
    """How much was compared."""

    jobs: int
    transfers: int


JOBS = text("""
SELECT max(id) AS last, count(*) AS seen FROM (
    SELECT id FROM generator_job WHERE id > :after ORDER BY id LIMIT :limit) AS page
""")
OF_JOBS = text("""
SELECT kind, job_id, NULL AS transfer_id, NULL AS grant_id, changed_at AS at, detail FROM ledger_job_discrepancy
WHERE job_id > :after AND job_id <= :last AND (CAST(:since AS timestamptz) IS NULL OR changed_at >= :since)
ORDER BY job_id
""")
TRANSFERS = text("""
SELECT max(number) AS last, count(*) AS seen FROM (
    SELECT number FROM generator_credit_transaction WHERE number > :after ORDER BY number LIMIT :limit) AS page
""")
OF_TRANSFERS = text("""
SELECT kind, job_id, transfer_id, NULL AS grant_id, at, detail FROM ledger_transfer_discrepancy
WHERE number > :after AND number <= :last AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
ORDER BY number
""")
OF_GRANTS = text("""
SELECT 'grant_not_carried_out' AS kind, NULL AS job_id, NULL AS transfer_id, asked.id AS grant_id,
       coalesce(asked.approved_at, asked.requested_at) AS at,
       format('%s of %s credits for %s, asked for by %s', asked.kind, asked.amount, asked.account, asked.requested_by)
           AS detail
FROM generator_credit_grant AS asked
WHERE asked.withdrawn_at IS NULL AND (asked.approved_at IS NOT NULL OR NOT asked.needs_approval)
  AND coalesce(asked.approved_at, asked.requested_at) < now() - interval '5 minutes'
  AND (CAST(:since AS timestamptz) IS NULL OR asked.requested_at >= :since)
  AND NOT EXISTS (SELECT FROM generator_credit_grant_failure AS failed WHERE failed.grant_id = asked.id)
  AND NOT EXISTS (SELECT FROM generator_credit_transaction AS moved WHERE moved.id = asked.account || ':'
                  || CASE asked.kind WHEN 'grant' THEN 'grant' ELSE 'adjustment' END || ':' || asked.id)
ORDER BY asked.requested_at
""")


def walk(*, since: datetime | None = None) -> Iterator[Discrepancy | Walked]:
    """Everything that is wrong, in jobs, then in transfers, then in grants, all as of one instant; at the end how much
    was compared. since: only jobs that moved, and transfers made, from then on."""
    with postgres.transaction() as tx:
        tx.execute(measures.GLIMPSE)
        jobs = yield from _pages(tx, JOBS, OF_JOBS, "", since)
        transfers = yield from _pages(tx, TRANSFERS, OF_TRANSFERS, 0, since)
        for row in tx.execute(OF_GRANTS, {"since": since}):
            yield Discrepancy(**row._mapping)
    yield Walked(jobs=jobs, transfers=transfers)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a walk found: all of it counted by name, the first of it told."""

    walked: Walked
    counts: Counter[str]
    told: list[Discrepancy]


def report(*, since: datetime | None = None, most: int = 1000) -> Report:
    """Walk, and keep so much as people can read."""
    walked, counts, told = Walked(jobs=0, transfers=0), Counter[str](), list[Discrepancy]()
    for one in walk(since=since):
        if isinstance(one, Walked):
            walked = one
            continue
        counts[one.kind] += 1
        if len(told) < most:
            told.append(one)
    return Report(walked=walked, counts=counts, told=told)


def _pages(
    tx: Connection, pages: TextClause, wrong: TextClause, after: str | int, since: datetime | None
) -> Generator[Discrepancy, None, int]:
    """What is wrong in each page; gives how many rows there were in all."""
    seen = 0
    while (page := tx.execute(pages, {"after": after, "limit": PAGE}).one()).seen:
        for row in tx.execute(wrong, {"after": after, "last": page.last, "since": since}):
            yield Discrepancy(**row._mapping)
        seen, after = seen + page.seen, page.last
    return seen
