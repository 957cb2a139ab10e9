"""A job's place in the line, and the terms it comes from, so that nobody has to guess why somebody else was first."""

from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import BaseModel

from functions.adapters import jobs, postgres, queue
from functions.api.identity import Asker
from functions.api.jobs import known, visible
from functions.api.problem import documented
from functions.domain.job import Job, State
from functions.domain.place import HEAD_START_MS

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class Term(BaseModel):
    """One term of the sum that `due_ms` is, unix ms for the first and ms for the others, and what it means."""

    name: str
    value_ms: int
    words: str


class Place(BaseModel):
    """Lower `due_ms` runs first; `ahead` jobs of the pool do, None when this one does not stand in the queue."""

    job_id: str
    state: State
    pool: str
    ahead: int | None
    run_at: datetime | None
    due_ms: int
    terms: list[Term]
    words: str


@router.get("/{job_id}/place", responses=documented(404))
def place(job_id: str, actor: Asker) -> Place:
    """How many are ahead, and why."""
    with postgres.transaction() as tx:
        job = visible(jobs.get(tx, known(job_id)), job_id, actor)
    ahead = queue.ahead(job.pool, job.id) if job.state is State.QUEUED else None
    return Place(
        job_id=job.id,
        state=job.state,
        pool=job.pool,
        ahead=ahead,
        run_at=job.run_at,
        due_ms=job.due_ms,
        terms=terms(job),
        words=words(job, ahead),
    )


def terms(job: Job) -> list[Term]:
    """due = submitted - head start; they sum up to the job's due_ms."""
    submitted_ms = round(job.submitted_at.timestamp() * 1000)
    head_start_ms = submitted_ms - job.due_ms
    of_role_ms = HEAD_START_MS.get(job.role.upper(), 0)
    of_boost_ms = head_start_ms - of_role_ms
    boosted = f"a boost of {job.boost} credits" if job.boost else "no boost"
    return [
        Term(
            name="submitted",
            value_ms=submitted_ms,
            words=f"asked for at {job.submitted_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        ),
        Term(name="role", value_ms=-of_role_ms, words=f"{job.role}: {_head_start(of_role_ms)}"),
        Term(name="boost", value_ms=-of_boost_ms, words=f"{boosted}: {_head_start(of_boost_ms, more='more ')}"),
    ]


def words(job: Job, ahead: int | None) -> str:
    """The place in one sentence."""
    if job.state is not State.QUEUED:
        return f"The job is {job.state}: it does not wait in the queue."
    if ahead is None:
        return "The job waits for the moment of its next try." if job.run_at else "A GPU is about to take the job."
    if ahead == 0:
        return f"The job is next in pool {job.pool}."
    return f"{ahead} {'job runs' if ahead == 1 else 'jobs run'} before this one in pool {job.pool}."


def _head_start(ms: int, *, more: str = "") -> str:
    if ms == 0:
        return f"no {more}head start"
    minutes = abs(ms) // 60_000
    if minutes > 7 * 24 * 60:
        return "ahead of everybody else"
    return f"{minutes} minutes {more}head start" if ms > 0 else f"{minutes} minutes behind"
