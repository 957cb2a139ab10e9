"""sweep: by the clock, whatever was lost on the way is mended.

Woken by a timer (`k8s/sweep.yaml`). Lapsed leases and due retries join the queue again, events that nobody has heard
are told again, and what Postgres knows and Redis has forgotten is put back. Everything here is safe to do twice, at
once, and to be killed in the middle of.
"""

import logging
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter

from functions.adapters import jobs, measures, outbox, postgres, queue, quotes
from functions.config import config
from functions.domain.errors import Unavailable
from functions.domain.job import RUNNING, Job

log = logging.getLogger(__name__)
PAGE = 500
#: A job that moved this recently may be between its commit and the word to Redis that follows.
SETTLING = timedelta(seconds=2)


def sweep() -> dict[str, int]:
    """Mend what can be mended now; gives how much of each was. Unavailable, after the rest is done, when a part of it
    could not be."""
    done: dict[str, int] = {}
    failed: list[Unavailable] = []
    for name, mend in {
        "retold": outbox.retell,
        "restored": restore,
        "reaped": reap,
        "counted": count,
        "forgotten": quotes.forget,
    }.items():
        try:
            done[name] = mend()
        except Unavailable as error:
            failed.append(error)
    if any(done.get(name) for name in ("retold", "restored", "reaped")):  # counting is every tick's, and no news
        log.info("swept: %s", done)
    if failed:
        raise Unavailable("; ".join(map(str, failed)))
    return done


def reap() -> int:
    """Lapsed leases and due retries back into the queues of all pools."""
    return sum(queue.reap(pool) for pool in config().pool_names)


def count() -> int:
    """Moves and transfers since the last time, added to the running totals that metrics are read from."""
    with postgres.transaction() as tx:
        return measures.fold(tx)


def restore() -> int:
    """Jobs that Postgres says are live, and Redis does not know of, put back where they stood.

    A running job gets its lease back rather than a place in the queue: its runner may well be alive and will extend
    it; if not, the lease lapses and the job is reaped like any other.
    """
    restored, after = 0, ""
    while True:
        with postgres.transaction() as tx:
            page = jobs.live(tx, after=after, limit=PAGE)
        settled = [job for job in page if datetime.now(UTC) - job.changed_at >= SETTLING]
        for pool, those in groupby(sorted(settled, key=attrgetter("pool")), key=attrgetter("pool")):
            by_id = {job.id: job for job in those}
            restored += sum(_put_back(by_id[job_id]) for job_id in queue.unknown(pool, list(by_id)))
        if len(page) < PAGE:
            return restored
        after = page[-1].id


def _put_back(job: Job) -> bool:
    if job.state in RUNNING and job.worker:
        return queue.hold(job.pool, job.id, due_ms=job.due_ms, worker=job.worker)
    return queue.put(job.pool, job.id, due_ms=job.due_ms, run_at=job.run_at)
