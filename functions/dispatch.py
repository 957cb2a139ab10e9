"""dispatch: a paid job joins the queue of the pool it fits.

hears   job.debited
says    job.queued    it waits for a GPU
"""

from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import jobs, postgres, queue
from functions.domain.event import JobDebited, JobQueued
from functions.domain.job import State


def dispatch(tx: Connection, event: JobDebited) -> JobQueued | None:
    """Queue the job; Redis hears of it once Postgres stands by it."""
    job = jobs.locked(tx, event.job_id)
    if job is None or job.state is not State.DEBITED:
        return None
    queued = job.to(State.QUEUED, changed_at=datetime.now(UTC))
    jobs.save(tx, queued)
    postgres.after_commit(tx, lambda: queue.put(queued.pool, queued.id, due_ms=queued.due_ms))
    return JobQueued(**queued.told(was=job.state))
