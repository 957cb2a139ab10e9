"""A job's place in the line, and the terms it comes from, so that nobody has to guess why somebody else was first."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal, cast

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from functions.adapters import controls, jobs, load, outlook, postgres, queue
from functions.adapters.controls import PoolControl
from functions.adapters.load import Look
from functions.adapters.outlook import Insight, Outlook
from functions.adapters.queue import Standing
from functions.api.identity import Asker
from functions.api.jobs import known, visible
from functions.api.problem import documented
from functions.api.waits import WaitView
from functions.config import config
from functions.domain import estimate
from functions.domain.errors import Rejected, Unavailable
from functions.domain.estimate import Wait
from functions.domain.job import Job, State
from functions.domain.place import head_start_ms

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
ON_ITS_WAY = {State.SUBMITTED, State.DEBITED}
WAITS = ON_ITS_WAY | {State.QUEUED}
Where = Literal["queue", "parked", "held", "delayed", "leased"]


class Term(BaseModel):
    """One term of the sum that `due_ms` is, unix ms for the first and ms for the others, and what it means."""

    name: str
    value_ms: int
    words: str


class Place(BaseModel):
    """Lower `due_ms` runs first; `ahead` jobs of the pool do."""

    job_id: str
    state: State
    pool: str
    where: Where | None = Field(
        description="queue: a GPU could take it this instant; parked: its pool is closed; held: its user or role has "
        "as many in the pool as it may have at once; delayed: its next try has a moment; leased: a GPU has it"
    )
    held_because: str | None = Field(description="why it is held or parked, in words")
    ahead: int | None = Field(description="null when the job does not stand in the line")
    ahead_by_tier: dict[str, int] | None = Field(description="null when the job is held, or too many are before it")
    run_at: datetime | None
    due_ms: int
    terms: list[Term]
    wait: WaitView | None = Field(description="from now until a GPU takes it; null when it does not wait")
    words: str


@router.get("/{job_id}/place", responses=documented(404))
def place(job_id: str, actor: Asker) -> Place:
    """How many are ahead and why, and how long it will be."""
    with postgres.transaction() as tx:
        job = visible(jobs.get(tx, known(job_id)), job_id, actor)
    look, standing = _see(job)
    with postgres.transaction() as tx:
        blocked = _blocked(tx, job)
        [insight] = outlook.insights(
            tx,
            {job.pool: look},
            orders=controls.pools(tx),
            role=job.role,
            workflow_id=job.workflow_id,
            model=job.model,
        ).values()
    expected = _outlook(job, insight, standing)
    return Place(
        job_id=job.id,
        state=job.state,
        pool=job.pool,
        where=cast(Where, standing.where) if standing else None,
        held_because=held_because(job, standing, order=insight.order, blocked=blocked),
        ahead=standing.ahead if standing else None,
        ahead_by_tier=dict(standing.ahead_by_tier) if standing and standing.ahead_by_tier is not None else None,
        run_at=job.run_at,
        due_ms=job.due_ms,
        terms=terms(job, worth_ms=config().head_starts_ms),
        wait=WaitView.of(expected) if expected else None,
        words=words(job, standing),
    )


def _blocked(tx: Connection, job: Job) -> bool:
    try:
        controls.check_user(tx, job.user_id)
    except Rejected:
        return True
    return False


def _see(job: Job) -> tuple[Look | None, Standing | None]:
    """The pool as the job meets it, and where it stands; None when it does not wait, or Redis does not answer."""
    if job.state not in WAITS:
        return None, None
    try:
        look = load.look(job.pool, user_id=job.user_id, due_ms=job.due_ms)
        return look, queue.standing(job.pool, job.id) if job.state is State.QUEUED else None
    except Unavailable as error:
        log.warning("the place of %s is told without the queue: %s", job.id, error)
        return None, None


def _outlook(job: Job, insight: Insight, standing: Standing | None) -> Outlook | None:
    """How long from now on; None of a job that does not wait any more."""
    if job.state not in WAITS or (standing and standing.where == "leased"):
        return None
    expected = insight.outlook(ahead=standing.ahead if standing else None)
    delay_ms = round((job.run_at - datetime.now(UTC)).total_seconds() * 1000) if job.run_at else 0
    if expected.wait is None or delay_ms <= 0:
        return expected
    wait = expected.wait
    later = Wait(p50_ms=wait.p50_ms + delay_ms, p90_ms=wait.p90_ms + delay_ms, raw_ms=wait.raw_ms)
    return replace(expected, wait=later, words=estimate.in_words(later))


def terms(job: Job, *, worth_ms: Mapping[str, int]) -> list[Term]:
    """due = asked for + behind the user's own work - head start; they sum up to the job's due_ms."""
    submitted_ms = round(job.submitted_at.timestamp() * 1000)
    start_ms = submitted_ms if job.start_ms is None else job.start_ms
    own_ms = start_ms - submitted_ms
    of_role_ms = head_start_ms(job.role, 0, worth_ms=worth_ms)
    of_boost_ms = start_ms - job.due_ms - of_role_ms
    boosted = f"a boost of {job.boost} credits" if job.boost else "no boost"
    return [
        Term(
            name="submitted",
            value_ms=submitted_ms,
            words=f"asked for at {job.submitted_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        ),
        Term(name="own_work", value_ms=own_ms, words=_own(own_ms)),
        Term(name="role", value_ms=-of_role_ms, words=f"{job.role}: {_head_start(of_role_ms)}"),
        Term(name="boost", value_ms=-of_boost_ms, words=f"{boosted}: {_head_start(of_boost_ms, more='more ')}"),
    ]


def held_because(job: Job, standing: Standing | None, *, order: PoolControl | None, blocked: bool) -> str | None:
    """Why the job is not let into the line, or the line is closed; None when neither is so."""
    if standing is None or standing.where not in ("held", "parked"):
        return None
    if standing.where == "parked":
        why = f"An operator has closed pool {job.pool}" if order else f"Pool {job.pool} runs as many jobs as it may"
        return f"{why}: {order.reason}." if order and order.reason else f"{why}."
    if blocked:
        return "An operator holds this user's jobs back."
    of_role = config().in_flight_of_roles.get(job.role.upper())
    most = config().max_in_flight_per_user
    limits = [f"{most} of one user"] * bool(most) + [f"{of_role} of the role {job.role}"] * (of_role is not None)
    return f"While others wait, pool {job.pool} runs at most {' and '.join(limits)} at once."


def words(job: Job, standing: Standing | None) -> str:
    """The place in one sentence."""
    if job.state in ON_ITS_WAY:
        return f"The job is {job.state}: it joins the line of pool {job.pool} in a moment."
    if job.state is not State.QUEUED:
        return f"The job is {job.state}: it does not wait in the queue."
    if standing is None:
        return "The line cannot be seen right now; the job keeps its place."
    return _in_line(job, standing)


def _in_line(job: Job, standing: Standing) -> str:
    if standing.where == "delayed":
        return "The job waits for the moment of its next try."
    if standing.where == "leased" or standing.ahead is None:
        return "A GPU is about to take the job."
    if standing.where == "held":
        return f"The job is held, behind {_jobs(standing.ahead)} in pool {job.pool}."
    if standing.ahead == 0:
        return f"The job is next in pool {job.pool}."
    return f"{_jobs(standing.ahead)} {'runs' if standing.ahead == 1 else 'run'} before this one in pool {job.pool}."


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _own(ms: int) -> str:
    if ms <= 0:
        return "behind no work of your own"
    minutes = ms / 60_000
    span = f"{round(minutes)} minutes" if minutes >= 1.5 else f"{round(ms / 1000)} seconds"
    return f"behind your own earlier work: {span}, its fair share of the pool"


def _head_start(ms: int, *, more: str = "") -> str:
    if ms == 0:
        return f"no {more}head start"
    minutes = abs(ms) // 60_000
    if minutes > 7 * 24 * 60:
        return "ahead of everybody else"
    return f"{minutes} minutes {more}head start" if ms > 0 else f"{minutes} minutes behind"
