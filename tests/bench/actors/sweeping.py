"""The sweep as shipped, on a database of its own."""

import logging
import time

from making import a_job

from functions.adapters import jobs, postgres, workflows
from functions.sweep import sweep as tick

logging.disable(logging.WARNING)


def live(count: int) -> str:
    """So many jobs that nobody has paid yet; gives the id of one, for others to be like."""
    waiting = [a_job(pool="default", user_id=f"user-{number}") for number in range(count)]
    named = {"id": "txt2img", "version": "1.0.0", "sha256": "0" * 64, "title": "none", "object_key": "none"}
    with postgres.transaction() as tx:
        tx.execute(workflows.PUBLISH, named | {"document": "{}"})
        for job in waiting:
            jobs.add(tx, job)
    return waiting[0].id


def sweep(times: int) -> float:
    """Milliseconds one takes."""
    began = time.monotonic()
    for _ in range(times):
        tick()
    return 1000 * (time.monotonic() - began) / times
