"""The least a leased queue can do over redis-py: one short script a step, no order but a score, no caps, no retries."""

import os
import time

import redis

CLIENT = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
PUT = CLIENT.script_load(
    "redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) return redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])"
)
CLAIM = CLIENT.script_load(
    "local best = redis.call('ZPOPMIN', KEYS[1]) if #best == 0 then return false end "
    "redis.call('ZADD', KEYS[2], ARGV[1], best[1]) return best[1]"
)
ACK = CLIENT.script_load("redis.call('HDEL', KEYS[2], ARGV[1]) return redis.call('ZREM', KEYS[1], ARGV[1])")
DUE_MS, LEASE_MS = 1_772_366_400_000, 30_000


def _keys(pool: str) -> tuple[str, str, str]:
    return (f"floor:{{{pool}}}:queue", f"floor:{{{pool}}}:leases", f"floor:{{{pool}}}:jobs")


def fill(pool: str, count: int, payload_bytes: int) -> None:
    """So many waiting jobs, each with a payload of this length."""
    line, payload = CLIENT.pipeline(transaction=False), "x" * payload_bytes
    for number in range(count):
        line.evalsha(PUT, 3, *_keys(pool), f"job-{number:012d}", DUE_MS + number, payload)
        if number % 1000 == 999:
            line.execute()
    line.execute()


def put(pool: str, count: int, payload_bytes: int) -> tuple[float, float, int]:
    """One at a time."""
    keys, payload = _keys(pool), "x" * payload_bytes
    jobs = [f"job-{number:012d}" for number in range(count)]
    began = time.monotonic()
    for number, job in enumerate(jobs):
        CLIENT.evalsha(PUT, 3, *keys, job, DUE_MS + number, payload)
    return began, time.monotonic(), count


def claim(pool: str, count: int) -> tuple[float, float, int]:
    """Claims, with nothing done about them."""
    keys = _keys(pool)
    began = time.monotonic()
    for _ in range(count):
        assert CLIENT.evalsha(CLAIM, 2, *keys[:2], DUE_MS + LEASE_MS)
    return began, time.monotonic(), count


def drain(pool: str, count: int) -> tuple[float, float, int]:
    """Jobs that do nothing: claim, acknowledge, next."""
    keys = _keys(pool)
    began = time.monotonic()
    for _ in range(count):
        job = CLIENT.evalsha(CLAIM, 2, *keys[:2], DUE_MS + LEASE_MS)
        CLIENT.evalsha(ACK, 2, *keys[1:], job)
    return began, time.monotonic(), count


def await_each(count: int) -> list[float]:
    """The moments at which a blocked BLPOP has each of so many jobs."""
    had = []
    for _ in range(count):
        assert CLIENT.blpop(["floor:wake"], timeout=30)
        had.append(time.monotonic())
    return had


def wake_each(gaps_s: list[float]) -> list[float]:
    """Let a job come after each of these pauses; gives the moments just before."""
    told = []
    for number, gap_s in enumerate(gaps_s):
        time.sleep(gap_s)
        told.append(time.monotonic())
        CLIENT.rpush("floor:wake", f"job-{number:012d}")
    return told
