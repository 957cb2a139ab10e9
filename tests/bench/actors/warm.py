"""Three GPUs and a mixed stream of five models, played through our queue a thousand times as fast as it would run."""

import heapq
import random
import time

from functions.adapters import queue
from functions.adapters.queue import Ticket

POOL = "bench"
GPUS, MODELS = 3, 5
RENDER_S, LOAD_S = 20.0, 40.0
FASTER = 1000


def play(*, warm: bool, jobs: int, arrivals_s: float, seed: int) -> dict[str, float]:
    """How often a model is loaded, and the longest that anybody had waited who was passed over; both in that stream's
    own time, seconds. Without `warm` runners claim in plain order."""
    chance = random.Random(seed)
    at_s, coming = 0.0, []
    for number in range(jobs):
        at_s += chance.expovariate(1 / arrivals_s)
        coming.append((at_s / FASTER, f"job-{number:06d}", f"model-{chance.randrange(MODELS)}"))
    coming.reverse()
    arrived: dict[str, tuple[float, str]] = {}  # waiting, in the order of their due
    gpus: list[str | None] = [None] * GPUS
    idle, busy = set(range(GPUS)), list[tuple[float, int, str]]()
    loads, longest, began = 0, 0.0, time.monotonic()
    while coming or busy or arrived:
        now = time.monotonic() - began
        while coming and coming[-1][0] <= now:
            moment, job_id, model = coming.pop()
            due_ms = 1_772_366_400_000 + int(moment * FASTER * 1000)
            queue.put(POOL, Ticket(job_id=job_id, due_ms=due_ms, user_id=job_id, tier="USER", model=model))
            arrived[job_id] = (time.monotonic() - began, model)
        while busy and busy[0][0] <= now:
            _, gpu, done = heapq.heappop(busy)
            queue.release(POOL, done, f"gpu-{gpu}")
            idle.add(gpu)
        for gpu in sorted(idle) if arrived else ():
            asked = time.monotonic() - began
            job_id = queue.claim(POOL, f"gpu-{gpu}", model=gpus[gpu] if warm else None)
            if job_id is None:
                break
            idle.discard(gpu)
            now = time.monotonic() - began
            first, (came, _) = next(iter(arrived.items()))
            if first != job_id:
                longest = max(longest, asked - came)
            _, model = arrived.pop(job_id)
            cold = gpus[gpu] != model
            loads += cold
            gpus[gpu] = model
            heapq.heappush(busy, (now + (RENDER_S + cold * LOAD_S) / FASTER, gpu, job_id))
        upcoming = [*(one[0] for one in coming[-1:]), *(one[0] for one in busy[:1])]
        if upcoming:
            time.sleep(max(0.0, min(upcoming) - (time.monotonic() - began)))
    return {"loads": loads, "passed_over_s": longest * FASTER}
