"""Jobs that go to another pool: from a crowded one to a bigger one with idle GPUs, or after they ran out of memory.

Postgres moves a job first and Redis follows. A sweep that dies in between leaves a note in Redis, and the next one ends
what it began; a runner that claims the job meanwhile, in the line of a pool that is not its own any more, puts it down
(`attempt.py`). If Redis has lost the note, it has lost the line as well, and sweep's `restore` makes it anew.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from functions.adapters import controls, jobs, load, postgres, queue
from functions.adapters.queue import Ticket
from functions.config import config
from functions.domain import pool
from functions.domain.job import Job, State
from functions.domain.pool import Need, PoolSpec

log = logging.getLogger(__name__)
AT_ONCE = 1000  # looked at in one pool in one sweep

NEED = text("""
SELECT (document ->> 'vram_gib')::float8 FROM generator_workflow WHERE id = :workflow_id AND version = :workflow_version
""")


def bigger(tx: Connection, job: Job) -> str | None:
    """The next bigger pool that could run this job; None when there is none."""
    vram_gib = tx.execute(NEED, vars(job)).scalar_one()
    need = Need(tags=job.tags, vram_gib=vram_gib)
    found = pool.bigger(list(config().pool_specs.values()), job.pool, need, closed=closed_pools(tx))
    return found[0].name if found else None


def closed_pools(tx: Connection) -> set[str]:
    """The pools from which nothing may be claimed."""
    return {order.pool for order in controls.pools(tx)}


MOVE = text("UPDATE generator_job SET pool = :pool WHERE id = :id")


def rehome(tx: Connection, job: Job, name: str) -> None:
    """The job, which the caller holds, belongs to this pool from now on."""
    tx.execute(MOVE, {"id": job.id, "pool": name})


@dataclass(frozen=True, kw_only=True)
class Overdue:
    """A job that has waited too long in its pool, and what it needs."""

    id: str
    need: Need


OVERDUE = text("""
SELECT job.id, job.tags, (workflow.document ->> 'vram_gib')::float8 AS vram_gib
FROM (
    SELECT id, user_id, tags, run_at, workflow_id, workflow_version, changed_at FROM generator_job
    WHERE state = 'queued' AND pool = :pool AND changed_at < now() - :after_s * interval '1 second'
    ORDER BY changed_at LIMIT :at_once
) AS job
JOIN generator_workflow AS workflow ON workflow.id = job.workflow_id AND workflow.version = job.workflow_version
WHERE (job.run_at IS NULL OR job.run_at < now() - :after_s * interval '1 second')
  AND NOT EXISTS (SELECT FROM generator_user_block AS block WHERE block.user_id = job.user_id)
ORDER BY job.changed_at, job.id
""")


def overdue(tx: Connection, name: str) -> list[Overdue]:
    """The jobs of a pool that have waited for SPILL_AFTER_S, the longest waiting first; at most a thousand."""
    rows = tx.execute(OVERDUE, {"pool": name, "after_s": config().spill_after_s, "at_once": AT_ONCE})
    return [Overdue(id=row.id, need=Need(tags=tuple(row.tags), vram_gib=row.vram_gib)) for row in rows]


SPILL = text("UPDATE generator_job SET pool = :pool, changed_at = now() WHERE id = :id")


def spill() -> int:
    """Move what has waited too long to the smallest bigger pool that can run it and has idle GPUs, one job a GPU; gives
    how many were moved. Safe to do twice at once, and to be killed in the middle of."""
    if not config().spill_after_s:
        return 0
    pools = sorted(config().pool_specs.values(), key=pool.size)
    for spec in pools:
        for job_id in load.leaving(spec.name):
            _follow(job_id, was=spec.name)
    idle = {spec.name: _idle(spec) for spec in pools[1:]}
    return sum(_relieve(spec, pools, idle) for spec in pools[:-1] if any(idle.values()))


def _relieve(crowded: PoolSpec, pools: Sequence[PoolSpec], idle: dict[str, int]) -> int:
    """Move this pool's overdue jobs to idle GPUs, as far as there are any; counts these down."""
    with postgres.transaction() as tx:
        closed = closed_pools(tx)
        waiting = overdue(tx, crowded.name)
    moved = 0
    for job in waiting:
        able = pool.bigger(pools, crowded.name, job.need, closed=closed)
        to = next((spec.name for spec in able if idle[spec.name] > 0), None)
        if to and _move(job.id, was=crowded.name, to=to):
            idle[to] -= 1
            moved += 1
    return moved


def _move(job_id: str, *, was: str, to: str) -> bool:
    """One job from one pool to another, if it still waits there."""
    load.note_leaving(was, job_id)
    with postgres.transaction() as tx:
        job = jobs.locked(tx, job_id)
        moves = job is not None and job.state is State.QUEUED and job.pool == was
        if moves:
            tx.execute(SPILL, {"id": job_id, "pool": to})
    _follow(job_id, was=was)
    if moves:
        log.info("job %s waited too long in %s: it goes to %s", job_id, was, to)
    return moves


def _follow(job_id: str, *, was: str) -> None:
    """Let Redis have the job where Postgres does."""
    with postgres.transaction() as tx:
        job = jobs.get(tx, job_id)
    if job is not None and job.pool != was:
        queue.remove(was, job_id)
        if job.state is State.QUEUED:
            queue.put(job.pool, Ticket.of(job))
    load.forget_leaving(was, job_id)


def _idle(spec: PoolSpec) -> int:
    """GPUs of the pool that nothing waits for and nothing runs on."""
    now = load.of(spec.name)
    return max(0, config().workers(spec.name) - now.leased - now.backlog)
