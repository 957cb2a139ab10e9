"""The credit ledger: transfers are posted through one SQL routine, and only ever added."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from functions.domain.errors import InsufficientCredits, SpendingCapReached
from functions.domain.event import CreditsTransferred
from functions.domain.transfer import Reason, Transfer

POST = text("""
SELECT outcome, amount, balance_after, detail
FROM generator_ledger_post(:id, :debit_account, :credit_account, :amount, :reason, :kind, :job_id, :undoes,
    :authorised_by, :instruction, :quote_id, :spender, :token_id, CAST(:caps AS jsonb))
""")


def post(tx: Connection, transfer: Transfer, *, caps: Mapping[str, int] | None = None) -> CreditsTransferred | None:
    """Make a transfer, once by its id; gives the news of it, or None when it was made before or nothing is left to do.

    The news says how much moved: a refund gives back no more than has not come back yet, an undo takes what its refund
    gave, a refresh fills the account up to its amount.

    caps: what the role of the account's user may spend in a day, a week or a month, where no row says otherwise.

    InsufficientCredits when the debit account holds less, SpendingCapReached when a cap would be broken; the account's
    row is locked until the transaction ends, so concurrent debits queue up and none can overdraw. Nothing needs rolling
    back then: nothing was written. A transfer that makes no sense, or that this role may not post, is a DBAPIError.
    """
    row = asdict(transfer) | {"caps": json.dumps(dict(caps)) if caps else None}
    outcome, amount, balance, detail = tx.execute(POST, row).one()
    if outcome == "short":
        raise InsufficientCredits(transfer.debit_account, balance=balance, needed=amount)
    if outcome == "capped":
        raise SpendingCapReached(detail)
    if outcome == "known":
        return None
    return CreditsTransferred(
        job_id=transfer.job_id or "",
        transfer_id=transfer.id,
        debit_account=transfer.debit_account,
        credit_account=transfer.credit_account,
        amount=amount,
        reason=transfer.reason,
    )


OVER_CAP = text("SELECT generator_ledger_over_cap(CAST(:spenders AS text[]), :credits, CAST(:caps AS jsonb))")


def over_cap(tx: Connection, spenders: Sequence[str], credits: int, *, caps: Mapping[str, int]) -> str | None:
    """Which spending cap this price would break, in words; None when none would. A look ahead: the debit decides."""
    asked = {"spenders": list(spenders), "credits": credits, "caps": json.dumps(dict(caps))}
    said: str | None = tx.execute(OVER_CAP, asked).scalar()
    return said


BALANCE = text("SELECT balance FROM generator_credit_account WHERE id = :account")


def balance(tx: Connection, account: str) -> int:
    """What a user's account holds now, in credits; 0 for one that never held any."""
    return tx.execute(BALANCE, {"account": account}).scalar() or 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of an account's statement: `change` is what the transfer did to it, `balance` what it left.

    kind: the occasion, None on lines from before there were kinds. spender: the member of a team who spent its credits.
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
    instruction: str | None
    at: datetime


ENTRY = """id, reason, kind, CASE WHEN credit_account = holder THEN amount ELSE -amount END AS change,
    balance, job_id, undoes, quote_id, spender, authorised_by, instruction, at"""


STATEMENT = text(f"""
SELECT {ENTRY} FROM generator_credit_transaction
WHERE holder = :account
  AND (CAST(:before_at AS timestamptz) IS NULL OR (at, id) < (:before_at, :before_id))
ORDER BY at DESC, id DESC
LIMIT :limit
""")  # noqa: S608


def statement(
    tx: Connection, account: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Entry]:
    """An account's lines, newest first, from just below `before` (a time and a transfer id)."""
    before_at, before_id = before or (None, None)
    rows = tx.execute(STATEMENT, {"account": account, "before_at": before_at, "before_id": before_id, "limit": limit})
    return [Entry(**dict(row._mapping) | {"reason": Reason(row.reason)}) for row in rows]


OF_JOB = text(f"""
SELECT {ENTRY} FROM generator_credit_transaction
WHERE job_id = :job_id AND reason = 'debit' AND undoes IS NULL AND holder = :account
UNION ALL
SELECT {ENTRY} FROM generator_credit_transaction
WHERE job_id = :job_id AND undoes IS NOT NULL AND holder = :account
ORDER BY at
""")  # noqa: S608


def of_job(tx: Connection, account: str, job_id: str) -> list[Entry]:
    """What a job did to the account that paid for it: the debit, and whatever came back."""
    rows = tx.execute(OF_JOB, {"account": account, "job_id": job_id})
    return [Entry(**dict(row._mapping) | {"reason": Reason(row.reason)}) for row in rows]


IMBALANCE = text("""
SELECT (SELECT coalesce(sum(balance), 0) FROM generator_credit_account WHERE balance IS NOT NULL)
     + (SELECT coalesce(sum(CASE WHEN credit_account = holder THEN -amount ELSE amount END), 0)
        FROM generator_credit_transaction)
""")


def imbalance(tx: Connection) -> int:
    """What all accounts hold together: zero, or the book is wrong."""
    return int(tx.execute(IMBALANCE).scalar_one())
