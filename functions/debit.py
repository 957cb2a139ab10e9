"""debit: take a submitted job's price from its account.

hears   job.submitted
says    job.debited           the transfer is in the ledger
        credits.transferred   the same, for whoever keeps a balance on a screen
        job.failed            the account could not cover it; nothing moved
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import jobs, ledger
from functions.domain import transfer
from functions.domain.errors import InsufficientCredits
from functions.domain.event import Event, JobDebited, JobFailed, JobSubmitted
from functions.domain.job import State


def debit(tx: Connection, event: JobSubmitted) -> Sequence[Event]:
    """Pay for the job, or fail it; a job that is no longer waiting to be paid is left alone."""
    job = jobs.locked(tx, event.job_id)
    if job is None or job.state is not State.SUBMITTED:
        return ()
    now = datetime.now(UTC)
    try:
        paid = ledger.post(tx, transfer.debit(job, authorised_by=f"user:{job.user_id}"))
    except InsufficientCredits as short:
        failed = job.to(State.FAILED, cause="insufficient_credits", detail=str(short), changed_at=now)
        jobs.save(tx, failed)
        return [JobFailed(**failed.told(was=job.state), detail=failed.detail)]
    jobs.save(tx, job.to(State.DEBITED, changed_at=now))
    debited = JobDebited(job_id=job.id, user_id=job.user_id, credits=job.credits)
    return [debited, paid] if paid else [debited]
