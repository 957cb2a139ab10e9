"""The whole house, as `make run` starts it, and jobs that go all the way through it."""

import atexit
import logging
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pg8000.native
from live import SMALL, Stack, bare_environment

from bench.address import address
from functions.stack.house import House

logging.disable(logging.WARNING)
LOOK_S = 0.25


@cache
def _stack() -> Stack:
    root = Path(tempfile.mkdtemp(prefix="visionsuit-bench-house-"))
    root.chmod(0o711)
    patient = {
        "RETELL_S": "120",
        "LEASE_S": "120",
        "HEARTBEAT_S": "30",
    }  # a slow machine must not look like a lost event
    house = House(root, gpus=2, step_ms=0, environ=bare_environment() | patient)
    house.start()

    @atexit.register
    def _() -> None:
        house.stop()
        shutil.rmtree(root, ignore_errors=True)

    return Stack(house)


@cache
def _postgres() -> Any:
    return pg8000.native.Connection(**address(str(_stack().house.admin_database_url)))


def commits(jobs: int) -> float:
    """Commits of all functions and the runner for one job, asked for, rendered and reviewed: those of a stretch of time
    in which so many went through, less those of an idle stretch as long."""
    stack = _stack()
    stack.grant("bench", 10 * jobs)
    _through(stack, 2)
    began, before = time.monotonic(), _committed()
    looks = _through(stack, jobs)
    took_s, busy = time.monotonic() - began, _committed() - before - looks
    before = _committed()
    time.sleep(took_s)
    idle = _committed() - before
    return (busy - idle) / jobs


def _through(stack: Stack, count: int) -> int:
    """Let so many jobs go through; gives how often Postgres was asked about them."""
    platform = stack.speaking_for("bench")
    asked = [platform.ask({"prompt": "a heron at dawn", "model": stack.model, **SMALL}) for _ in range(count)]
    looks = _until(asked, "awaiting_review")
    rows = _postgres().run("SELECT job_id, id FROM generator_artifact WHERE job_id = ANY(:ids)", ids=asked)
    for job_id, artifact_id in rows:
        platform.decide(job_id, artifact_id, "discard")
    return looks + 1 + _until(asked, "completed")


def _until(jobs: list[str], state: str) -> int:
    looks, until = 0, time.monotonic() + 300
    while time.monotonic() < until:
        time.sleep(LOOK_S)
        looks += 1
        [[there]] = _postgres().run(
            "SELECT count(*) FROM generator_job WHERE id = ANY(:ids) AND state = :state", ids=jobs, state=state
        )
        if there == len(jobs):
            return looks
    raise TimeoutError(f"{there} of {len(jobs)} jobs are {state}")


def _committed() -> int:
    """Transactions so far. A connection tells of its own within a second, and sooner when it is asked to."""
    time.sleep(1.5)
    _postgres().run("SELECT pg_stat_clear_snapshot()")
    [[count]] = _postgres().run("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    return int(count)
