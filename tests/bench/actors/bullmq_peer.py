"""BullMQ for Python: a Queue and a Worker of concurrency 1, priorities on, leased as ours are."""

import asyncio
import os
import time
from typing import Any

from bullmq import Queue, Worker

OPTIONS = {"connection": os.environ["REDIS_URL"]}


def bulk(count: int) -> tuple[float, float, int]:
    """Many jobs in one call."""
    return asyncio.run(_bulk(count))


async def _bulk(count: int) -> tuple[float, float, int]:
    queue = Queue("bench", OPTIONS)
    jobs = [
        {"name": "job", "data": {"number": number}, "opts": {"priority": 1 + number % 3, "removeOnComplete": True}}
        for number in range(count)
    ]
    began = time.monotonic()
    await queue.addBulk(jobs)
    ended = time.monotonic()
    await queue.close()
    return began, ended, count


def drain(count: int) -> tuple[float, float, int]:
    """Jobs that do nothing, from the worker's start to the end of the last."""
    return asyncio.run(_drain(count))


async def _drain(count: int) -> tuple[float, float, int]:
    over, left = asyncio.Event(), count

    async def nothing(job: Any, token: str) -> None:
        pass

    def completed(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            over.set()

    worker = Worker("bench", nothing, OPTIONS | {"concurrency": 1, "autorun": False})
    worker.on("completed", completed)
    began = time.monotonic()
    running = asyncio.create_task(worker.run())
    await over.wait()
    ended = time.monotonic()
    await worker.close()
    await running
    return began, ended, count
