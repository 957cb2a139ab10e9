"""Redis compared with Postgres, which is right: what is missing there is put back, what should not be there is removed.

Redis and Postgres count a pool's comparisons. While the counts agree, only what has moved since the last ones is looked
at. Where they do not, Redis was emptied, replaced or set back to an older snapshot, and everything is, while runners go
on claiming.
"""

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from functions.adapters import jobs, postgres, queue
from functions.adapters.queue import Ticket
from functions.domain.job import LIVE, RUNNING, Job

log = logging.getLogger(__name__)
PAGE = 500
#: A job that moved this recently may be between its commit and the word to Redis that follows.
SETTLING = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True)
class Bookmark:
    """Where the comparison of a pool stands. stale: everything was compared an hour ago or never."""

    number: int
    from_move: int
    last_move: int
    read_at: datetime
    stale: bool


# A pool's first comparison is of everything. Those that follow look at the last few thousand moves before it as well,
# which may have been under way, and not at a long history.
BEGIN = text("""
INSERT INTO queue_bookmark (pool, from_move, mark_move)
SELECT :pool, recent, recent
FROM (SELECT greatest(coalesce(max(id), 0) - 10000, 0) AS recent FROM generator_job_transition) AS move
ON CONFLICT (pool) DO NOTHING
""")
READ = text("""
SELECT number, from_move, now() AS read_at, compared_at IS NULL OR compared_at < now() - interval '1 hour' AS stale,
       coalesce((SELECT max(id) FROM generator_job_transition), 0) AS last_move
FROM queue_bookmark WHERE pool = :pool
""")


def _bookmark(tx: Connection, pool: str) -> Bookmark:
    tx.execute(BEGIN, {"pool": pool})
    return Bookmark(**tx.execute(READ, {"pool": pool}).one()._mapping)


# A mark is passed on when no transaction that had drawn a lower number can still be open.
ADVANCE = text("""
UPDATE queue_bookmark
SET number = number + 1, compared_at = CASE WHEN :everything THEN CAST(:read_at AS timestamptz) ELSE compared_at END,
    from_move = CASE WHEN ripe THEN mark_move ELSE from_move END,
    mark_move = CASE WHEN ripe THEN greatest(mark_move, :last_move) ELSE mark_move END,
    marked_at = CASE WHEN ripe THEN CAST(:read_at AS timestamptz) ELSE marked_at END
FROM (
    SELECT marked_at < CAST(:read_at AS timestamptz) - interval '2 minutes' AS ripe FROM queue_bookmark
    WHERE pool = :pool
) AS mark
WHERE pool = :pool
RETURNING number
""")


def compare(pool: str, *, everything: bool = False) -> int:
    """Make Redis agree with Postgres about this pool; gives how many jobs it had wrong."""
    with postgres.transaction() as tx:
        found = _bookmark(tx, pool)
    mark = queue.mark(pool)
    everything = everything or found.stale or mark != str(found.number)
    if everything:
        # A name of our own meanwhile: if Redis is emptied while we walk, it is gone, and the next walk is as long.
        mark = _marked(pool, mark, uuid.uuid4().hex)
        mended = sum(_mend(pool, page) for page in _live(pool)) + sum(_weeded(pool, ids) for ids in queue.scan(pool))
        log.info("pool %s: all of Redis compared with Postgres, %d jobs were wrong", pool, mended)
    else:
        mended = sum(_mend(pool, page) for page in _moved(pool, found.from_move))
    with postgres.transaction() as tx:
        number = tx.execute(ADVANCE, vars(found) | {"pool": pool, "everything": everything}).scalar_one()
    queue.set_mark(pool, was=mark, to=str(number))
    return mended


def _marked(pool: str, was: str | None, to: str) -> str | None:
    return to if queue.set_mark(pool, was=was, to=to) else None


def _live(pool: str) -> Iterator[list[Job]]:
    after = ""
    while True:
        with postgres.transaction() as tx:
            page = jobs.live(tx, pool, after=after, limit=PAGE)
        yield page
        if len(page) < PAGE:
            return
        after = page[-1].id


def _moved(pool: str, from_move: int) -> Iterator[list[Job]]:
    after = ""
    while True:
        with postgres.transaction() as tx:
            page = jobs.moved(tx, pool, from_move, after=after, limit=PAGE)
        yield page
        if len(page) < PAGE:
            return
        after = page[-1].id


def _mend(pool: str, page: Sequence[Job]) -> int:
    settled = {job.id: job for job in page if datetime.now(UTC) - job.changed_at >= SETTLING}
    unknown = queue.unknown(pool, list(settled))
    over = (job for job in settled.values() if job.state not in LIVE and job.id not in unknown)
    lost = [job for job in settled.values() if job.state in LIVE and job.id in unknown]
    return sum(queue.remove(pool, job.id) for job in over) + _put_back(pool, lost)


def _put_back(pool: str, lost: Sequence[Job]) -> int:
    """Running jobs get their lease back rather than a place in the line: their runners may well be alive and will
    extend it; if not, the lease lapses and the job is reaped like any other."""
    running = {job.id: job.worker for job in lost if job.state in RUNNING and job.worker}
    waiting = [Ticket.of(job) for job in lost if job.id not in running]
    held = sum(queue.hold(pool, Ticket.of(job), running[job.id]) for job in lost if job.id in running)
    return held + queue.put_all(pool, waiting)


def _weeded(pool: str, job_ids: Sequence[str]) -> int:
    """Those of these jobs that Postgres says are live no more, or another pool's, removed."""
    with postgres.transaction() as tx:
        live = {job.id for job in jobs.of_ids(tx, job_ids) if job.state in LIVE and job.pool == pool}
    return sum(queue.remove(pool, job_id) for job_id in job_ids if job_id not in live)
