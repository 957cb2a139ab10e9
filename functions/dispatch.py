"""dispatch: a paid job joins the queue of the pool it fits.

hears   job.debited
says    job.queued    it waits for a GPU
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import estimates, jobs, postgres, queue, workflows
from functions.adapters.queue import Ticket
from functions.config import config
from functions.domain.errors import Unavailable
from functions.domain.event import JobDebited, JobQueued
from functions.domain.job import Job, State
from functions.domain.place import Place, head_start_ms, place, work

log = logging.getLogger(__name__)


def dispatch(tx: Connection, event: JobDebited) -> JobQueued | None:
    """Queue the job at the place its user, tier and boost give it; Redis hears of it once Postgres stands by it."""
    job = jobs.locked(tx, event.job_id)
    if job is None or job.state is not State.DEBITED:
        return None
    given = _place(tx, job)
    queued = replace(job.to(State.QUEUED, changed_at=datetime.now(UTC)), **vars(given))
    jobs.enqueue(tx, queued)
    postgres.after_commit(tx, lambda: queue.put(queued.pool, Ticket.of(queued)))
    return JobQueued(**queued.told(was=job.state))


def _place(tx: Connection, job: Job) -> Place:
    complexity = workflows.complexity(tx, job.workflow_id, job.workflow_version)
    amount = work(job.parameters, images=job.images, complexity=complexity)
    pool = config().pool_specs.get(job.pool)
    return place(
        submitted_ms=round(job.submitted_at.timestamp() * 1000),
        cost_ms=estimates.cost_ms(tx, pool=job.pool, workflow_id=job.workflow_id, model=job.model, work=amount),
        users=_users(job.pool),
        workers=pool.max_workers if pool else 1,
        head_start_ms=head_start_ms(job.role, job.boost, worth_ms=config().head_starts_ms),
        behind_ms=jobs.behind_ms(tx, job.pool, job.user_id),
    )


def _users(pool: str) -> int:
    """How many users share the pool. Without Redis a job is taken all the same, as if its user were alone."""
    try:
        return queue.users(pool)
    except Unavailable as error:
        log.warning("a place in %s is given without knowing who else waits there: %s", pool, error)
        return 1
