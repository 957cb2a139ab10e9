"""debit: take a submitted job's price from its account.

hears   job.submitted
says    job.debited           the transfer is in the ledger
        credits.transferred   the same, for whoever keeps a balance on a screen
        job.failed            the account could not cover it, or a spending cap stands against it; nothing moved
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import earnings, jobs, ledger
from functions.config import config
from functions.domain import transfer
from functions.domain.errors import InsufficientCredits, SpendingCapReached
from functions.domain.event import Event, JobDebited, JobFailed, JobSubmitted
from functions.domain.job import Job, State


def debit(tx: Connection, event: JobSubmitted) -> Sequence[Event]:
    """Pay for the job, or fail it; a job that is no longer waiting to be paid is left alone."""
    job = jobs.locked(tx, event.job_id)
    if job is None or job.state is not State.SUBMITTED:
        return ()
    now = datetime.now(UTC)
    if job.payer is None:
        earnings.touch(tx, job.user_id)
    price = transfer.debit(job, authorised_by=f"user:{job.user_id}", instruction=f"{job.id}:job.requested")
    try:
        paid = ledger.post(tx, price, caps=config().spending_caps_of(job.role))
    except InsufficientCredits as short:
        return _fail(tx, job, "insufficient_credits", str(short), now)
    except SpendingCapReached as capped:
        return _fail(tx, job, "spending_cap_reached", str(capped), now)
    jobs.save(tx, job.to(State.DEBITED, changed_at=now))
    debited = JobDebited(job_id=job.id, user_id=job.user_id, credits=job.credits)
    return [debited, paid] if paid else [debited]


def _fail(tx: Connection, job: Job, cause: str, detail: str, now: datetime) -> Sequence[Event]:
    failed = job.to(State.FAILED, cause=cause, detail=detail, changed_at=now)
    jobs.save(tx, failed)
    return [JobFailed(**failed.told(was=job.state), detail=detail)]
