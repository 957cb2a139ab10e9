"""cancel: a job is called off.

hears   job.cancel_requested
says    job.cancelled         it stops where it stands
        credits.transferred   the refund, unless its user stopped a render that was under way
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import jobs, ledger, postgres, queue
from functions.domain import transfer
from functions.domain.errors import Rejected
from functions.domain.event import CancelRequested, Event, JobCancelled
from functions.domain.job import FINISHED, Job, State
from functions.domain.transfer import Kind

PAID = frozenset({State.DEBITED, State.QUEUED, State.DISPATCHING, State.IN_PROGRESS})


def cancel(tx: Connection, event: CancelRequested) -> Sequence[Event]:
    """Call the job off; a runner that holds it finds out by its lease. Rejected when there is nothing to call off."""
    actor = event.actor
    job = jobs.locked(tx, event.job_id)
    if job is None or (actor.user_id != job.user_id and actor.role != "ADMIN"):
        raise Rejected("unknown_job", f"there is no job {event.job_id!r} of yours", field="job_id")
    if job.state is State.CANCELLED:
        return ()
    if job.state in FINISHED or job.state is State.AWAITING_REVIEW:
        raise Rejected("too_late", f"job {job.id} is {job.state}: its pictures can be discarded, not called off")
    by = "admin" if actor.user_id != job.user_id else "user"
    off = job.to(
        State.CANCELLED,
        cause=f"cancelled_by_{by}",
        detail=event.asked.reason or None,
        changed_at=datetime.now(UTC),
    )
    jobs.save(tx, off)
    postgres.after_commit(tx, lambda: queue.remove(job.pool, job.id))
    told = JobCancelled(**off.told(was=job.state))
    refund = _refund(tx, job, event, by)
    return [told, refund] if refund else [told]


def _refund(tx: Connection, job: Job, event: CancelRequested, by: str) -> Event | None:
    """Everything comes back, but for a render that its own user stopped: the GPU had worked for it."""
    if job.state not in PAID or (job.state is State.IN_PROGRESS and by == "user"):
        return None
    back = transfer.refund(job, Kind.CANCELLED, authorised_by=f"user:{event.actor.user_id}", instruction=event.id)
    return ledger.post(tx, back)
