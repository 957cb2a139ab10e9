"""The credit ledger: transfers are posted through one SQL routine, and only ever added."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from functions.domain.errors import InsufficientCredits
from functions.domain.event import CreditsTransferred
from functions.domain.transfer import Reason, Transfer

POST = text("""
SELECT outcome, balance_after
FROM generator_ledger_post(:id, :debit_account, :credit_account, :amount, :reason, :job_id, :undoes, :authorised_by)
""")


def post(tx: Connection, transfer: Transfer) -> CreditsTransferred | None:
    """Make a transfer, once by its id; gives the news of it, or None when it was made before.

    InsufficientCredits when the debit account holds less; the account's row is locked until the transaction ends, so
    concurrent debits queue up and none can overdraw. Nothing needs rolling back then: nothing was written.
    """
    outcome, balance = tx.execute(POST, asdict(transfer)).one()
    if outcome == "short":
        raise InsufficientCredits(transfer.debit_account, balance=balance, needed=transfer.amount)
    if outcome == "known":
        return None
    return CreditsTransferred(
        job_id=transfer.job_id or "",
        transfer_id=transfer.id,
        debit_account=transfer.debit_account,
        credit_account=transfer.credit_account,
        amount=transfer.amount,
        reason=transfer.reason,
    )


BALANCE = text("SELECT balance FROM generator_credit_account WHERE id = :account")


def balance(tx: Connection, account: str) -> int:
    """What a user's account holds now, in credits; 0 for one that never held any."""
    return tx.execute(BALANCE, {"account": account}).scalar() or 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a user's statement: `change` is what the transfer did to this account, `balance` what it left."""

    id: str
    reason: Reason
    change: int
    balance: int
    job_id: str | None
    undoes: str | None
    authorised_by: str
    at: datetime


STATEMENT = text("""
SELECT id, reason, CASE WHEN credit_account = :account THEN amount ELSE -amount END AS change,
       balance, job_id, undoes, authorised_by, at
FROM generator_credit_transaction
WHERE (debit_account = :account OR credit_account = :account)
  AND (CAST(:before_at AS timestamptz) IS NULL OR (at, id) < (:before_at, :before_id))
ORDER BY at DESC, id DESC
LIMIT :limit
""")


def statement(
    tx: Connection, account: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Entry]:
    """A user's account, newest first, from just below `before` (a time and a transfer id)."""
    before_at, before_id = before or (None, None)
    rows = tx.execute(STATEMENT, {"account": account, "before_at": before_at, "before_id": before_id, "limit": limit})
    return [Entry(**dict(row._mapping) | {"reason": Reason(row.reason)}) for row in rows]


OF_JOB = text("""
SELECT id, reason, CASE WHEN debit_account = :account THEN -amount ELSE amount END AS change,
       balance, job_id, undoes, authorised_by, at
FROM generator_credit_transaction WHERE id = ANY(:ids) ORDER BY at
""")


def of_job(tx: Connection, account: str, job_id: str) -> list[Entry]:
    """What a job did to its user's account: the debit, and the refund if there was one."""
    rows = tx.execute(OF_JOB, {"account": account, "ids": [f"{job_id}:debit", f"{job_id}:refund"]})
    return [Entry(**dict(row._mapping) | {"reason": Reason(row.reason)}) for row in rows]


IMBALANCE = text("""
SELECT (SELECT coalesce(sum(balance), 0) FROM generator_credit_account WHERE balance IS NOT NULL)
     + (SELECT coalesce(sum(CASE WHEN credit_account IN ('treasury', 'revenue') THEN amount ELSE -amount END), 0)
        FROM generator_credit_transaction)
""")


def imbalance(tx: Connection) -> int:
    """What all accounts hold together: zero, or the book is wrong."""
    return int(tx.execute(IMBALANCE).scalar_one())
