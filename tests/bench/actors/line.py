"""Our queue, as the functions and a runner use it: through `functions.adapters.queue`."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from functions import render
from functions.adapters import queue
from functions.adapters.queue import Ticket
from functions.config import config

MODELS = 5
TIERS = ("CURATOR", "USER", "USER", "LOW")
WORKER = "gpu-7f9c4d-x2x8p"
DUE_MS = 1_772_366_400_000


def ticket(number: int, *, users: int, prefix: str = "job", run_at: datetime | None = None) -> Ticket:
    """One job of a mixed stream: so many users, three tiers, five models."""
    mixed = number * 2_654_435_761 % 2**32  # spread, and the same in every run
    return Ticket(
        job_id=f"{prefix}-{number:012d}",
        due_ms=DUE_MS + mixed // 64,
        user_id=f"user-{mixed % users:06d}",
        tier=TIERS[mixed // users % len(TIERS)],
        model=model(number),
        run_at=run_at,
    )


def model(number: int) -> str:
    """The model that this job of the stream wants."""
    return f"model-{number * 2_654_435_761 % 2**32 // 7 % MODELS}.safetensors"


def fill(pool: str, count: int, users: int, delayed: int = 0, leased: int = 0) -> None:
    """So many waiting jobs; beside them so many with a lease, and so many whose next try is tomorrow."""
    bulk(pool, count=leased, users=users, prefix="leased")
    for number in range(leased):
        queue.claim(pool, f"{WORKER}-{number}")
    bulk(pool, count=delayed, users=users, prefix="delayed", run_at=datetime.now(UTC) + timedelta(days=1))
    bulk(pool, count=count, users=users)


def bulk(
    pool: str, count: int, users: int, prefix: str = "job", run_at: datetime | None = None
) -> tuple[float, float, int]:
    """Many jobs at once, a thousand at a time."""
    began, took = time.monotonic(), 0.0
    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        tickets = [ticket(number, users=users, prefix=prefix, run_at=run_at) for number in numbers]
        at = time.monotonic()
        queue.put_all(pool, tickets)
        took += time.monotonic() - at
    return began, began + took, count


def put(pool: str, count: int, users: int) -> tuple[float, float, int]:
    """One at a time."""
    tickets = [ticket(number, users=users) for number in range(count)]
    began = time.monotonic()
    for one in tickets:
        assert queue.put(pool, one)
    return began, time.monotonic(), count


def claim(pool: str, count: int) -> tuple[float, float, int]:
    """Claims by a runner whose last job's model is warm, with nothing done about them."""
    warm = None
    began = time.monotonic()
    for _ in range(count):
        job_id = queue.claim(pool, WORKER, model=warm)
        warm = model(int(job_id[-12:]))
    return began, time.monotonic(), count


def drain(pool: str, count: int) -> tuple[float, float, int]:
    """Jobs that do nothing: claim, release, next."""
    warm = None
    began = time.monotonic()
    for _ in range(count):
        job_id = queue.claim(pool, WORKER, model=warm)
        warm = model(int(job_id[-12:]))
        queue.release(pool, job_id, WORKER)
    return began, time.monotonic(), count


def claim_among(pool: str, count: int, users: int) -> float:
    """Microseconds a claim takes while the pool stays as full as it is: what is claimed is done with and another job
    comes for it, off the clock."""
    warm, took, new = None, 0.0, 10**9 + time.monotonic_ns() % 10**9
    for number in range(new, new + count):
        began = time.monotonic()
        job_id = queue.claim(pool, WORKER, model=warm)
        took += time.monotonic() - began
        warm = model(int(job_id[-12:]))
        queue.release(pool, job_id, WORKER)
        queue.put(pool, ticket(number, users=users))
    return 1e6 * took / count


def record_bytes(pool: str, count: int) -> int:
    """How long our record of a job is on average, over the first so many of `fill`."""
    records = queue.client().hmget(queue.key(pool, "jobs"), [f"job-{number:012d}" for number in range(count)])
    return round(sum(len(record) for record in records) / count)


def await_each(count: int) -> list[float]:
    """The moments at which an idle runner that stays has each of so many jobs."""
    had = []
    for _ in range(count):
        job_id = render._claim(wait_s=60, stop=lambda: False, model=None)
        had.append(time.monotonic())
        queue.release(config().claiming_pool, job_id, config().worker)
    return had


def wake_each(gaps_s: list[float]) -> list[float]:
    """Let a job come after each of these pauses; gives the moments just before."""
    told = []
    for number, gap_s in enumerate(gaps_s):
        one = replace(ticket(number, users=10**6), due_ms=DUE_MS + number)  # had in the order they came
        time.sleep(gap_s)
        told.append(time.monotonic())
        queue.put(config().claiming_pool, one)
    return told


def depth(pool: str) -> dict[str, int]:
    """How many jobs stand where."""
    return queue.depth(pool)
