"""Credits move in transfers: whole credits from one account to another, only ever added, each with its reason."""

from dataclasses import dataclass
from enum import StrEnum

from functions.domain.job import Job

TREASURY = "treasury"  # where grants come from; may go below zero: it is the credits in circulation
REVENUE = "revenue"  # where prices go, and refunds come from


class Reason(StrEnum):
    """Why credits moved."""

    GRANT = "grant"
    DEBIT = "debit"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """`amount` credits leave debit_account and reach credit_account.

    id: computed from what the transfer is for, so that posting it twice posts it once.
    undoes: the transfer that a refund gives back.
    """

    id: str
    debit_account: str
    credit_account: str
    amount: int
    reason: Reason
    authorised_by: str
    job_id: str | None = None
    undoes: str | None = None


def account(user_id: str) -> str:
    """The account that holds a user's credits."""
    return f"user:{user_id}"


def debit(job: Job, *, authorised_by: str) -> Transfer:
    """The job's price leaves its user's account."""
    return Transfer(
        id=f"{job.id}:debit",
        debit_account=account(job.user_id),
        credit_account=REVENUE,
        amount=job.credits,
        reason=Reason.DEBIT,
        authorised_by=authorised_by,
        job_id=job.id,
    )


def refund(job: Job, *, authorised_by: str) -> Transfer:
    """The job's whole price comes back, boost included, naming the debit it undoes."""
    return Transfer(
        id=f"{job.id}:refund",
        debit_account=REVENUE,
        credit_account=account(job.user_id),
        amount=job.credits,
        reason=Reason.REFUND,
        authorised_by=authorised_by,
        job_id=job.id,
        undoes=f"{job.id}:debit",
    )


def grant(user_id: str, amount: int, *, key: str, authorised_by: str) -> Transfer:
    """New credits for a user; `key` names the occasion, which pays once."""
    return Transfer(
        id=f"{account(user_id)}:grant:{key}",
        debit_account=TREASURY,
        credit_account=account(user_id),
        amount=amount,
        reason=Reason.GRANT,
        authorised_by=authorised_by,
    )
