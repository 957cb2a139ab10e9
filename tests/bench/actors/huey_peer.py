"""huey, by its own consumer: one worker thread, its Redis storage with priorities. What dies with a worker is lost."""

import os
import threading
import time

from huey import PriorityRedisHuey

QUEUE = PriorityRedisHuey("bench", url=os.environ["REDIS_URL"])
_done = threading.Event()
_left = [0]


@QUEUE.task()
def nothing() -> None:
    """A job that does nothing, and counts itself."""
    _left[0] -= 1
    if _left[0] == 0:
        _done.set()


def put(count: int) -> tuple[float, float, int]:
    """One at a time."""
    began = time.monotonic()
    for number in range(count):
        QUEUE.enqueue(nothing.s(priority=number % 3))
    return began, time.monotonic(), count


def drain(count: int) -> tuple[float, float, int]:
    """Jobs that do nothing, from the consumer's start to the end of the last."""
    _left[0] = count
    _done.clear()
    consumer = QUEUE.create_consumer(workers=1, worker_type="thread", periodic=False, check_worker_health=False)
    began = time.monotonic()
    consumer.start()
    _done.wait()
    ended = time.monotonic()
    consumer.stop(graceful=True)
    return began, ended, count
