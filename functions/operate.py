"""operate: what operators do to pools, users and dead jobs, the same from the command line and over REST.

Each act is one transaction with the record of who did it, when and why (`generator_operator_act`). Orders stand in
Postgres; Redis is told after the commit, and by sweep if that was lost.

A dead job that is requeued has failed and was refunded, and from there no way leads back. So it is asked for anew, as a
job of its own with the same parameters and seed, in its user's name: priced, paid and queued like any other.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from functions.adapters import acts, controls, dead_jobs, jobs, outbox, postgres, queue
from functions.adapters.controls import PoolControl, UserBlock
from functions.adapters.dead_jobs import DeadJob, Wanted
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import Actor, JobRequested
from functions.domain.job import Job
from functions.domain.pool import PoolSpec
from functions.domain.request import PARAMETERS, JobRequest, LoraChoice, WorkflowChoice
from functions.hear import listed, verb

log = logging.getLogger(__name__)


Mode = Literal["working", "paused", "draining"]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool as operators see it. order: what they have ordered; None: it works. closed: every reason for which nothing
    is claimed from it just now. depth: its jobs by where they stand."""

    spec: PoolSpec
    order: PoolControl | None
    closed: frozenset[str]
    depth: Mapping[str, int]

    @property
    def mode(self) -> Mode:
        return self.order.mode if self.order else "working"


def pools() -> list[Pool]:
    """Every configured pool, in the order they are given."""
    with postgres.transaction() as tx:
        orders = {order.pool: order for order in controls.pools(tx)}
    return [
        Pool(
            spec=spec,
            order=orders.get(name),
            closed=frozenset(queue.closed(name)),
            depth=queue.depth(name),
        )
        for name, spec in config().pool_specs.items()
    ]


def blocked() -> list[UserBlock]:
    """Every user that is blocked."""
    with postgres.transaction() as tx:
        return controls.blocked(tx)


def pause(names: Sequence[str], *, by: str, reason: str) -> None:
    """Let nothing be claimed from these pools; what runs goes on, and what waits keeps its place."""
    _order("pause", names, lambda tx, name: controls.pause(tx, name, by=by, reason=reason), by=by, reason=reason)


def drain(names: Sequence[str], *, by: str, reason: str) -> None:
    """The same, and new jobs go to another pool that fits, or are refused."""
    _order("drain", names, lambda tx, name: controls.drain(tx, name, by=by, reason=reason), by=by, reason=reason)


def resume(names: Sequence[str], *, by: str, reason: str = "") -> None:
    """Let these pools work again."""
    _order("resume", names, controls.resume, by=by, reason=reason)


def _order(act: str, names: Sequence[str], order: Callable[[Connection, str], object], *, by: str, reason: str) -> None:
    """One order for all of these pools, or for none: Rejected when one is not configured."""
    for name in names:
        if name not in config().pool_specs:
            known = ", ".join(config().pool_names)
            raise Rejected("unknown_pool", f"there is no pool {name!r}; there are {known}", field="pool")
    with postgres.transaction() as tx:
        for name in names:
            order(tx, name)
            acts.record(tx, by=by, act=act, subject=name, reason=reason)
    log.info("%s %s, by %s", act, ", ".join(names), by)


def block(user_id: str, *, by: str, reason: str) -> None:
    """Hold what this user has waiting, and refuse what they ask for; what runs goes on."""
    with postgres.transaction() as tx:
        controls.block(tx, user_id, by=by, reason=reason)
        acts.record(tx, by=by, act="block", subject=user_id, reason=reason)


def unblock(user_id: str, *, by: str, reason: str = "") -> None:
    """Let this user's jobs wait like anybody's, at the places they had."""
    with postgres.transaction() as tx:
        controls.unblock(tx, user_id)
        acts.record(tx, by=by, act="unblock", subject=user_id, reason=reason)


def each(wanted: Wanted) -> Iterator[DeadJob]:
    """Every such dead job, in the order they died."""
    return postgres.each(lambda tx, **page: dead_jobs.find(tx, wanted, **page))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one dead job. requeued_as: the job that was asked for; code, problem: why nothing was done, None
    when all is as it was meant to be."""

    job_id: str
    requeued_as: str | None = None
    code: str | None = None
    problem: str | None = None


def requeue(job_ids: Iterable[str], *, by: str, reason: str = "") -> Iterator[Outcome]:
    """Ask anew for each of these, one transaction each. What was requeued before stays as it is, and is told again."""
    return _each_of(job_ids, lambda tx, dead: _requeued(tx, dead, by=by, reason=reason))


def drop(job_ids: Iterable[str], *, by: str, reason: str) -> Iterator[Outcome]:
    """Take each of these off the list for good, one transaction each; the record of them stays."""
    return _each_of(job_ids, lambda tx, dead: _dropped(tx, dead, by=by, reason=reason))


def _each_of(job_ids: Iterable[str], act: Callable[[Connection, DeadJob], Outcome]) -> Iterator[Outcome]:
    for job_id in job_ids:
        try:
            with postgres.transaction() as tx:
                dead = dead_jobs.locked(tx, job_id)
                if dead is None:
                    raise Rejected("unknown_dead_job", "there is no such dead job")
                done = act(tx, dead)
        except Rejected as no:
            done = Outcome(job_id=job_id, code=no.code, problem=no.detail)
        yield done


def _requeued(tx: Connection, dead: DeadJob, *, by: str, reason: str) -> Outcome:
    if dead.requeued_as:
        return Outcome(job_id=dead.job_id, requeued_as=dead.requeued_as)
    if dead.dropped_at:
        raise Rejected("dropped", f"{dead.dropped_by} dropped it: {dead.dropped_why}")
    job = jobs.get(tx, dead.job_id)
    if job is None:
        raise Rejected("unknown_dead_job", "what was asked for is gone, so it cannot be asked for again")
    if jobs.get(tx, dead.next_id) is not None:
        raise Rejected("job_exists", f"there is a job {dead.next_id} already, and it was not made from this one")
    actor = Actor(user_id=job.user_id, role=job.role)
    said = verb("submit")(tx, JobRequested.of(job_id=dead.next_id, actor=actor, asked=asked(job)))
    outbox.put(tx, "/functions/submit", listed(said))
    dead_jobs.mark_requeued(tx, dead, by=by)
    acts.record(tx, by=by, act="requeue", subject=dead.job_id, reason=reason)
    log.info("dead job %s was requeued as %s by %s", dead.job_id, dead.next_id, by)
    return Outcome(job_id=dead.job_id, requeued_as=dead.next_id)


def _dropped(tx: Connection, dead: DeadJob, *, by: str, reason: str) -> Outcome:
    if dead.requeued_as:
        raise Rejected("requeued", f"{dead.requeued_by} requeued it as {dead.requeued_as}")
    if dead.dropped_at is None:
        dead_jobs.mark_dropped(tx, dead, by=by, reason=reason)
        acts.record(tx, by=by, act="drop", subject=dead.job_id, reason=reason)
        log.info("dead job %s was dropped by %s", dead.job_id, by)
    return Outcome(job_id=dead.job_id)


def asked(job: Job) -> JobRequest:
    """The request that makes this job once more: all it was resolved to, its seed and its workflow's version."""
    own = {name: value for name, value in job.parameters.items() if name in PARAMETERS}
    return JobRequest(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        workflow=WorkflowChoice(id=job.workflow_id, version=job.workflow_version),
        model=job.model,
        loras=tuple(LoraChoice(**lora) for lora in job.loras),
        seed=str(job.seed),
        boost=job.boost,
        tags=job.tags,
        collection_id=job.collection_id,
        review_required=job.review_required,
        pay_from=job.payer,
        parameters={name: value for name, value in job.parameters.items() if name not in own},
        **own,
    )
