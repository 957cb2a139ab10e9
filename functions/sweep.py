"""sweep: by the clock, whatever was lost on the way is mended.

Woken by a timer (`k8s/sweep.yaml`). Lapsed leases and due retries join the queue again, events that nobody has heard
are told again, what Postgres knows and Redis has forgotten is put back, and what has waited too long goes to a bigger
pool. Everything here is safe to do twice, at once, and to be killed in the middle of.
"""

import logging

from functions.adapters import controls, jobs, measures, outbox, postgres, queue, quotes, rebuild, spill
from functions.config import config
from functions.domain.errors import Unavailable

log = logging.getLogger(__name__)


def sweep() -> dict[str, int]:
    """Mend what can be mended now; gives how much of each was. Unavailable, after the rest is done, when a part of it
    could not be."""
    done: dict[str, int] = {}
    failed: list[Unavailable] = []
    for name, mend in {
        "retold": outbox.retell,
        "ordered": controls.apply,
        "restored": restore,
        "reaped": reap,
        "spilled": spill.spill,
        "counted": count,
        "forgotten": quotes.forget,
    }.items():
        try:
            done[name] = mend()
        except Unavailable as error:
            failed.append(error)
    if any(
        done.get(name) for name in ("retold", "ordered", "restored", "reaped", "spilled")
    ):  # counting is every tick's, and no news
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


def restore(*, everything: bool = False) -> int:
    """What Postgres says is live and Redis does not know of is put back where it stood, and what is live no more is
    removed; gives how many. `everything`: whatever moved; done of itself when Redis has lost its memory."""
    with postgres.transaction() as tx:
        pools = {*config().pool_names, *jobs.live_pools(tx)}
    return sum(rebuild.compare(pool, everything=everything) for pool in sorted(pools))
