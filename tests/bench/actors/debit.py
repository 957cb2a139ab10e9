"""The debit as shipped: `hear` with all its transaction holds, and only the letters that follow it not posted."""

import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from live import TESTER
from making import a_job

from functions.adapters import grants, jobs, outbox, postgres, workflows
from functions.domain.event import JobSubmitted
from functions.hear import Heard, hear

logging.disable(logging.WARNING)
outbox.post = lambda letters, world: None  # the way to the Broker is a hop of its own, and no part of the transaction
_heard: list[Heard] = []


def fund(users: list[str]) -> None:
    """A workflow for the jobs to name, and credits enough for every debit to come."""
    plain = vars(a_job())
    named = {"id": plain["workflow_id"], "version": plain["workflow_version"], "sha256": plain["workflow_sha256"]}
    with postgres.transaction() as tx:
        tx.execute(workflows.PUBLISH, named | {"title": "none", "object_key": "none", "document": "{}"})
    for user in users:
        with postgres.transaction() as tx:
            grants.give(tx, TESTER, user, 1_000_000, id=uuid.uuid4().hex, reason="the benchmark")


def submit(users: list[str], count: int) -> None:
    """Jobs that wait to be paid, spread over these users."""
    _heard.clear()
    with postgres.transaction() as tx:
        for number in range(count):
            job = a_job(user_id=users[number % len(users)])
            jobs.add(tx, job)
            said = JobSubmitted(job_id=job.id, user_id=job.user_id, credits=job.credits)
            _heard.append(Heard(source="/functions/submit", id=f"{job.id}-submitted", event=said))


def debit(threads: int) -> tuple[float, float, int]:
    """Pay for all of them, so many at a time."""
    if threads == 1:
        began = time.monotonic()
        said = [hear("debit", heard) for heard in _heard]
        return began, time.monotonic(), _paid(said)
    with ThreadPoolExecutor(threads) as pool:
        began = time.monotonic()
        said = list(pool.map(lambda heard: hear("debit", heard), _heard))
        return began, time.monotonic(), _paid(said)


def _paid(said: list[object]) -> int:
    assert all(said), "a debit said nothing: it was not paid, or heard before"
    return len(said)
