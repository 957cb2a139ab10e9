"""How much waits in a pool this instant, read from Redis in a few commands whose cost does not grow with the queue; and
what is noted there of a pool, for a while."""

from collections.abc import Sequence
from dataclasses import dataclass

from functions.adapters import queue
from functions.config import config
from functions.domain.estimate import Load
from functions.domain.place import BOOST

#: A pool that nobody asks anything of has no reason to stay saturated.
SATURATED_KEPT_S = 3600


@dataclass(frozen=True, kw_only=True)
class Look:
    """A pool as a job that comes now meets it. ahead: jobs that would run before it, held ones of others counted once a
    user, as they are let in; saturated: whether it was at the last look."""

    load: Load
    ahead: int
    saturated: bool


def of(pool: str) -> Load:
    """The pool's load."""
    depth = queue.depth(pool)
    return Load(**{name: depth.get(name, 0) for name in Load.__dataclass_fields__})


def waiting(pools: Sequence[str]) -> int:
    """How many jobs wait in all these pools."""
    return sum(of(pool).backlog for pool in pools)


def look(pool: str, *, user_id: str, due_ms: int) -> Look:
    """The pool as a job of this user with this place would meet it."""
    before = f"({due_ms}"
    with queue.answering():
        line = queue.client().pipeline(transaction=False)
        line.get(queue.key(pool, "saturated"))
        line.zcard(queue.key(pool, f"held:{user_id}"))
        for part in ("queue", "parked", *(f"heads:{tier}" for tier in config().head_starts_ms if tier != BOOST)):
            line.zcount(queue.key(pool, part), "-inf", before)
        saturated, own_held, *counts = line.execute()
    return Look(load=of(pool), ahead=sum(counts) + max(0, own_held - 1), saturated=saturated is not None)


def remember_saturated(pool: str, saturated: bool) -> None:
    """Let the next look know; Redis may forget, and the pool is then judged anew."""
    with queue.answering():
        if saturated:
            queue.client().set(queue.key(pool, "saturated"), 1, ex=SATURATED_KEPT_S)
        else:
            queue.client().delete(queue.key(pool, "saturated"))


def note_leaving(pool: str, job_id: str) -> None:
    """A job is about to move to another pool."""
    with queue.answering():
        queue.client().sadd(queue.key(pool, "leaving"), job_id)


def forget_leaving(pool: str, job_id: str) -> None:
    """It has, or has not."""
    with queue.answering():
        queue.client().srem(queue.key(pool, "leaving"), job_id)


def leaving(pool: str) -> set[str]:
    """Jobs whose move to another pool was begun and not ended: none, unless somebody died or does so right now."""
    with queue.answering():
        return set(queue.client().smembers(queue.key(pool, "leaving")))
