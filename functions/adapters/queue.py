"""The queue: jobs wait in Redis, in one sorted set a pool, and leave it under a lease.

A job stands in exactly one of three sets: `queue` (a runner could claim it this instant; KEDA counts these and nothing
else), `leases` (a runner holds it) or `delayed` (its next try has a moment). Postgres is the truth: all of this may
vanish at any time, and `sweep` puts it back.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from functions.config import config
from functions.domain.errors import Unavailable

SCRIPTS = Path(__file__).parent / "lua"
DEAD = "generator:dead"
DEAD_LENGTH = 10_000
PROGRESS_LENGTH = 200
PROGRESS_KEPT_S = 3600


@cache
def client() -> Any:
    """The process's connection to Redis; one quick second try covers a connection that died while idle.

    `Any`, because redis-py types every answer as perhaps awaitable.
    """
    return redis.Redis.from_url(
        config().need("redis_url"),
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 1),
    )


@cache
def _script(name: str) -> Any:
    text = (SCRIPTS / f"{name}.lua").read_text()
    return client().register_script((SCRIPTS / "due_back.lua").read_text() + text)


def keys(pool: str) -> list[str]:
    """The pool's four keys; the braces keep them in one cluster slot."""
    return [f"generator:{{{pool}}}:{part}" for part in ("queue", "leases", "delayed", "holders")]


def progress_key(job_id: str) -> str:
    return f"generator:progress:{job_id}"


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable(f"Redis: {error.__class__.__name__}") from error


def _run(name: str, pool: str, *args: object) -> Any:
    with _answering():
        return _script(name)(keys=keys(pool), args=list(args))


def claim(pool: str, worker: str) -> str | None:
    """The job that is due first, now leased to this worker; None when nothing waits. O(log n)."""
    job_id: str | None = _run("claim", pool, round(config().lease_s * 1000), worker)
    return job_id


def reap(pool: str) -> int:
    """Lapsed leases and due retries back into the queue; gives how many."""
    return int(_run("reap", pool))


def put(pool: str, job_id: str, *, due_ms: int, run_at: datetime | None = None) -> bool:
    """Let the job wait, unless Redis knows of it already; True when it did not."""
    return bool(_run("put", pool, job_id, due_ms, _ms(run_at)))


def retry(pool: str, job_id: str, *, due_ms: int, run_at: datetime) -> None:
    """Let the job wait for its next try, whoever held it."""
    _run("retry", pool, job_id, due_ms, _ms(run_at))


def hold(pool: str, job_id: str, *, due_ms: int, worker: str) -> bool:
    """Give a forgotten lease back to the worker Postgres names; False when Redis knows of the job already."""
    return bool(_run("hold", pool, job_id, due_ms, worker, round(config().lease_s * 1000)))


def extend(pool: str, job_id: str, worker: str) -> bool | None:
    """A sign of life. True: the lease goes on; False: the job is another's now; None: nobody holds it, ask Postgres."""
    return {1: True, -1: False}.get(int(_run("extend", pool, job_id, worker, round(config().lease_s * 1000))))


def holds(pool: str, job_id: str, worker: str) -> bool:
    """Whether Redis has this worker down as the job's holder: a look, cheaper than a sign of life."""
    with _answering():
        holder = client().hget(keys(pool)[3], job_id)
    return holder is not None and str(holder).partition(" ")[2] == worker


def release(pool: str, job_id: str, worker: str, *, give_back: bool = False) -> bool:
    """This worker is done with the job; with `give_back` it waits again at the place it had."""
    return bool(_run("release", pool, job_id, worker, int(give_back)))


def remove(pool: str, job_id: str) -> None:
    """The job waits for nothing any more."""
    _run("remove", pool, job_id)


def unknown(pool: str, job_ids: Sequence[str]) -> set[str]:
    """Those of these jobs that stand in none of the pool's sets, found in one round trip."""
    if not job_ids:
        return set()
    with _answering():
        line = client().pipeline(transaction=False)
        for key in keys(pool)[:3]:
            line.zmscore(key, list(job_ids))
        scores = zip(*line.execute(), strict=True)
    return {job_id for job_id, found in zip(job_ids, scores, strict=True) if not any(s is not None for s in found)}


def depth(pool: str) -> dict[str, int]:
    """How many jobs are waiting, leased and delayed."""
    with _answering():
        line = client().pipeline(transaction=False)
        for key in keys(pool)[:3]:
            line.zcard(key)
        return dict(zip(("waiting", "leased", "delayed"), line.execute(), strict=True))


def ahead(pool: str, job_id: str) -> int | None:
    """How many jobs of the pool are claimed before this one; None when it is not waiting."""
    with _answering():
        rank: int | None = client().zrank(keys(pool)[0], job_id)
    return rank


def bury(job_id: str, record: Mapping[str, Any]) -> None:
    """A job no retry could help joins the dead letters, with its error history."""
    with _answering():
        client().xadd(DEAD, {"job_id": job_id, "record": json.dumps(record)}, maxlen=DEAD_LENGTH, approximate=True)


def tell_progress(job_id: str, record: Mapping[str, Any]) -> None:
    """Live progress for whoever watches: capped, and gone an hour after the last word."""
    with _answering():
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
    with _answering():
        line = client().pipeline(transaction=False)
        for job_id, pool in waiting.items():
            line.zrank(keys(pool)[0], job_id)
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
