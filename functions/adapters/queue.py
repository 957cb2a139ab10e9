"""The queue: jobs wait in Redis, a line a pool, and leave it under a lease.

Of every job that stands here the pool has one record, and the job stands in exactly one place: in the line (a runner
could claim it this instant; the autoscaler counts these and nothing else), under a lease, delayed until its next try,
or held back until its user or its tier has room again. While a pool is closed its line is parked out of sight.
`lua/pool.lua` names the keys. Postgres is the truth: all of this may vanish at any time, and `sweep` puts it back.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import redis

from functions.adapters import scripts
from functions.config import config
from functions.domain.errors import Unavailable
from functions.domain.job import Job

BLOCKED = 2**40  # as in lua/pool.lua: what a blocked user's slots are raised by
client, script = scripts.client, scripts.script
CHUNK = 500  # job ids in one call
AT_ONCE = 50  # jobs put in one call: it keeps the server from others for about half a millisecond
LOOK = 256  # how many of the jobs before one are looked at, to tell their tiers
IN_FLIGHT = "generator:flight"  # who is at work in any pool, while MAX_IN_FLIGHT is set
FULL = "generator:full"  # the pools that are closed for that
TOTAL = "total"
DEAD = "generator:dead"
DEAD_LENGTH = 10_000
PROGRESS_LENGTH = 200
PROGRESS_KEPT_S = 3600


def key(pool: str, part: str) -> str:
    """A key of the pool's; the braces keep all of them in one cluster slot."""
    return f"generator:{{{pool}}}:{part}"


def progress_key(job_id: str) -> str:
    return f"generator:progress:{job_id}"


@contextmanager
def answering() -> Iterator[None]:
    """Around what is asked of Redis: Unavailable when it does not answer."""
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable(f"Redis: {error.__class__.__name__}") from error


def run(name: str, pool: str, *args: object) -> Any:
    """Run a script on a pool, with the limits that hold for it."""
    try:
        return script(name)(f"generator:{{{pool}}}:queue", config().limits(pool), *args)
    except redis.RedisError as error:
        raise Unavailable(f"Redis: {error.__class__.__name__}") from error


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What Redis is told of a job that waits. run_at: not before this moment; None: at once."""

    job_id: str
    due_ms: int
    user_id: str
    tier: str
    model: str
    run_at: datetime | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(
            job_id=job.id,
            due_ms=job.due_ms,
            user_id=job.user_id,
            tier=job.role.upper(),
            model=job.model,
            run_at=job.run_at,
        )

    @property
    def args(self) -> tuple[str | int, ...]:
        return self.job_id, self.due_ms, self.tier, self.model, self.user_id


def claim(pool: str, worker: str, *, model: str | None = None, woken: bool = False) -> str | None:
    """The job that is due first, now leased to this worker; None when nothing waits. O(log n).

    model: the one this worker has warm; of the first few jobs it may get a later one of that model. woken: it heard the
    bell; if it leaves more than it takes, the next that waits for it hears it.
    """
    if config().max_in_flight and not _place_for(pool, worker):
        return None
    job_id: str | None = run("claim", pool, worker, model or "", *("1" if woken else ""))
    if job_id is None:
        _give_place(worker)
    return job_id


def await_bell(pool: str, wait_s: float) -> bool:
    """Wait until something has come into the pool's empty line, at most so long; False when nothing has.

    A hint and no more: between two runners it may be heard by the wrong one, and Redis may forget it.
    """
    with answering():
        return scripts.ask("BLPOP", key(pool, "bell"), wait_s) is not None


def reap(pool: str) -> int:
    """Lapsed leases and due retries back into the line; gives how many."""
    if _take_place():
        open_(pool, TOTAL)
    return int(run("reap", pool))


def put(pool: str, ticket: Ticket) -> bool:
    """Let the job wait, unless Redis knows of it already; True when it did not."""
    return bool(run("put", pool, *ticket.args, _ms(ticket.run_at)))


def put_all(pool: str, tickets: Sequence[Ticket]) -> int:
    """Let many jobs wait, a few dozen a round trip; gives how many Redis did not know of."""
    put = 0
    for start in range(0, len(tickets), AT_ONCE):
        some = tickets[start : start + AT_ONCE]
        put += run("put", pool, *(part for one in some for part in (*one.args, _ms(one.run_at))))
    return put


def retry(pool: str, ticket: Ticket) -> None:
    """Let the job wait for its next try, whoever held it."""
    run("retry", pool, *ticket.args, _ms(ticket.run_at))


def hold(pool: str, ticket: Ticket, worker: str, *, force: bool = False) -> bool:
    """Give a forgotten lease back to the worker Postgres names; False when Redis knows the job already. `force`: it is
    taken from wherever it stands."""
    return bool(run("hold", pool, *ticket.args, worker, int(force)))


def extend(pool: str, job_id: str, worker: str) -> bool:
    """A sign of life: True when the lease goes on. If not, ask Postgres whose the job is: Redis may have forgotten."""
    _take_place(worker)
    return bool(run("extend", pool, job_id, worker))


def holds(pool: str, job_id: str, worker: str) -> bool:
    """Whether Redis has this worker down as the job's holder: a look, cheaper than a sign of life."""
    with answering():
        record = client().hget(key(pool, "jobs"), job_id)
    return record is not None and str(record).rpartition("\0")[2] == worker


def release(pool: str, job_id: str, worker: str, *, give_back: bool = False) -> bool:
    """This worker is done with the job; with `give_back` it waits again at the place it had."""
    released = bool(run("release", pool, job_id, worker, int(give_back)))
    _give_place(worker)
    return released


def remove(pool: str, job_id: str) -> bool:
    """The job waits for nothing any more; False when it did not stand anywhere."""
    return bool(run("remove", pool, job_id))


def _place_for(pool: str, worker: str) -> bool:
    """Whether this worker may be one of all at work; if not, the pool is closed until a place is given back."""
    if _take_place(worker):
        return True
    with answering():
        client().sadd(FULL, pool)
    close(pool, TOTAL)
    if not _take_place():
        return False
    open_(pool, TOTAL)  # one was given back meanwhile, by somebody who did not know yet that we wait
    return _take_place(worker)


def _take_place(worker: str = "") -> bool:
    """Take, or keep, one of the places there are in all pools together; without a worker, whether there is one."""
    if not config().max_in_flight:
        return True
    with answering():
        return bool(script("take")(IN_FLIGHT, config().max_in_flight, round(config().lease_s * 1000), worker))


def _give_place(worker: str) -> None:
    if not config().max_in_flight:
        return
    with answering():
        client().zrem(IN_FLIGHT, worker)
        full = client().smembers(FULL)
        if full:
            client().srem(FULL, *full)
    for pool in full:
        open_(pool, TOTAL)


def close(pool: str, reason: str) -> None:
    """Let nothing of this pool be claimed, and the autoscaler see nothing in it, until this reason is gone. O(1)."""
    run("close", pool, reason)


def open_(pool: str, reason: str) -> None:
    """Take a reason away; with the last one the pool is open again. O(1)."""
    run("open", pool, reason)


def closed(pool: str) -> set[str]:
    """Why the pool is closed: `operator` (paused or draining), `limit` (as many in flight as it may have), `total` (as
    many as all pools together may have); empty while it is open."""
    with answering():
        return set(client().smembers(key(pool, "closed")))


def block(pool: str, user_id: str, job_ids: Sequence[str] = ()) -> None:
    """Hold back what this user has waiting, and what comes; what is leased goes on.

    job_ids: the user's jobs that may stand in the line, which is not searched for them (`controls.block` names them).
    """
    for start in range(0, max(1, len(job_ids)), CHUNK):
        run("block", pool, user_id, *job_ids[start : start + CHUNK])


def unblock(pool: str, user_id: str) -> None:
    """Let what this user has waiting wait like anybody's."""
    while run("unblock", pool, user_id):
        pass


def blocked(pool: str) -> set[str]:
    """The users who are blocked in this pool."""
    with answering():
        return set(client().smembers(key(pool, "blocked")))


def unknown(pool: str, job_ids: Sequence[str]) -> set[str]:
    """Those of these jobs that stand nowhere in the pool, found in one round trip."""
    if not job_ids:
        return set()
    with answering():
        records = client().hmget(key(pool, "jobs"), list(job_ids))
    return {job_id for job_id, record in zip(job_ids, records, strict=True) if record is None}


def scan(pool: str) -> Iterator[list[str]]:
    """All jobs that stand in the pool, a few hundred at a time; one that comes or goes meanwhile may be among them."""
    cursor = 0
    while True:
        with answering():
            cursor, records = client().hscan(key(pool, "jobs"), cursor, count=CHUNK)
        if records:
            yield list(records)
        if cursor == 0:
            return


def mark(pool: str) -> str | None:
    """What `set_mark` left; None when Redis knows of none."""
    with answering():
        found: str | None = client().get(key(pool, "mark"))
    return found


def set_mark(pool: str, *, was: str | None, to: str) -> bool:
    """Leave a mark in the place of the one that was read; False when it is gone or another's."""
    return bool(run("mark", pool, was or "", to))


def depth(pool: str) -> dict[str, int]:
    """How many jobs are waiting (in the line of an open pool), leased, delayed, parked (in a closed one's) and held."""
    with answering():
        line = client().pipeline(transaction=True)
        for part in ("queue", "leases", "delayed", "parked"):
            line.zcard(key(pool, part))
        line.hlen(key(pool, "jobs"))
        *counts, known = line.execute()
    return dict(zip(("waiting", "leased", "delayed", "parked"), counts, strict=True)) | {"held": known - sum(counts)}


def users(pool: str) -> int:
    """How many users have jobs in the pool's line or under its leases. O(1)."""
    with answering():
        return int(client().hlen(key(pool, "slots")))


def waiting_of_user(pool: str, user_id: str) -> int:
    """How many jobs of this user wait for a GPU of the pool, but for those whose next try has a moment. O(1)."""
    with answering():
        line = client().pipeline(transaction=True)
        line.hget(key(pool, "slots"), user_id)
        line.hget(key(pool, "flight"), user_id)
        line.zcard(key(pool, f"held:{user_id}"))
        slots, flight, held = line.execute()
    return int(slots or 0) % BLOCKED - int(flight or 0) + int(held)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a job stands: queue, parked, held, delayed or leased, and how many of the pool's jobs run before it.

    ahead: None under a lease or a delay. Of a held job: its user's earlier ones, and those in the line due before it.
    ahead_by_tier: None where there are too many to look at (LOOK), and of a held job.
    """

    where: str
    ahead: int | None = None
    ahead_by_tier: Mapping[str, int] | None = None


def standing(pool: str, job_id: str) -> Standing | None:
    """Where the job stands; None when Redis does not know it."""
    found = run("standing", pool, job_id, LOOK)
    if not found:
        return None
    where, ahead, tiers = (*found, None, None)[:3]
    exact = where != "held" and ahead is not None and ahead <= LOOK
    return Standing(where=where, ahead=ahead, ahead_by_tier=dict(Counter(tiers)) if exact else None)


def bury(job_id: str, record: Mapping[str, Any]) -> None:
    """A job no retry could help joins the dead letters, with its error history."""
    with answering():
        client().xadd(DEAD, {"job_id": job_id, "record": json.dumps(record)}, maxlen=DEAD_LENGTH, approximate=True)


def tell_progress(job_id: str, record: Mapping[str, Any]) -> None:
    """Live progress for whoever watches: capped, and gone an hour after the last word."""
    with answering():
        line = client().pipeline(transaction=False)
        line.xadd(progress_key(job_id), {"record": json.dumps(record)}, maxlen=PROGRESS_LENGTH, approximate=True)
        line.expire(progress_key(job_id), PROGRESS_KEPT_S)
        line.execute()


def progress(job_id: str) -> dict[str, Any] | None:
    """The latest word on a job's render; None when there is none."""
    return glance({}, [job_id])[1].get(job_id)


def glance(waiting: Mapping[str, str], running: Sequence[str]) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """What a watcher of many jobs wants, in one round trip: how many are ahead of each waiting job (job id -> pool),
    and the latest word on each running one's render. Jobs of which there is nothing to say are left out."""
    with answering():
        line = client().pipeline(transaction=False)
        for job_id, pool in waiting.items():
            line.zrank(key(pool, "queue"), job_id)
        for job_id in running:
            line.xrevrange(progress_key(job_id), count=1)
        said = line.execute() if waiting or running else []
    ranks = zip(waiting, said[: len(waiting)], strict=True)
    words = zip(running, said[len(waiting) :], strict=True)
    return (
        {job_id: rank for job_id, rank in ranks if rank is not None},
        {job_id: json.loads(last[0][1]["record"]) for job_id, last in words if last},
    )


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else round(moment.timestamp() * 1000)
