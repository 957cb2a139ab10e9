"""The runner as KEDA starts it: a process that claims, works and ends."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from live import Stack
from making import a_job

from functions.adapters import jobs, postgres, queue, workflows
from functions.adapters.queue import Ticket
from functions.domain.job import Job, State


def waiting(user: str, *, pool: str) -> Job:
    """A paid job at the end of this pool's queue, which no runner but the test's serves."""
    with postgres.transaction() as tx:
        sha256 = workflows.find(tx, "txt2img", None).sha256
        job = a_job(user_id=user, pool=pool, workflow_sha256=sha256)
        jobs.add(tx, job)
        for state in (State.DEBITED, State.QUEUED):
            job = job.to(state)
            jobs.save(tx, job)
    queue.put(pool, Ticket.of(job))
    return job


def run(stack: Stack, folder: Path, **settings: str) -> int:
    """A runner from start to end; gives its exit code."""
    env = stack.house.env | settings | {"READY_FILE": str(folder / "claimed")}
    runner = subprocess.run(
        [sys.executable, "-m", "functions.render"], env=env, cwd=Path(__file__).parents[1], timeout=60, check=False
    )
    return runner.returncode


def test_a_runner_does_one_job_and_ends(stack: Stack, user: str, tmp_path: Path) -> None:
    first, second = waiting(user, pool="once"), waiting(user, pool="once")
    assert run(stack, tmp_path, POOL="once") == 0
    assert (tmp_path / "claimed").exists()
    stack.wait(first.id, State.AWAITING_REVIEW, State.QUEUED)
    assert queue.depth("once")["waiting"] == 1
    assert {job.state for one in (first, second) if (job := stack.job(one.id))} >= {State.QUEUED}
    queue.remove("once", first.id)
    queue.remove("once", second.id)


def test_a_runner_that_may_stay_does_one_job_after_the_other_and_ends_when_none_comes(
    stack: Stack, user: str, tmp_path: Path
) -> None:
    both = [waiting(user, pool="warm") for _ in range(2)]
    assert run(stack, tmp_path, POOL="warm", MAX_JOBS="5", IDLE_S="0.6") == 0
    done = [stack.wait(job.id, State.AWAITING_REVIEW) for job in both]
    assert len({job.worker for job in done}) == 1


def test_a_runner_for_whom_nothing_waits_ends_at_once_and_never_counts_as_ready(stack: Stack, tmp_path: Path) -> None:
    assert run(stack, tmp_path, POOL="empty", MAX_JOBS="5", IDLE_S="30") == 0
    assert not (tmp_path / "claimed").exists()


def test_a_job_that_another_runner_finished_meanwhile_is_let_be(stack: Stack, user: str, tmp_path: Path) -> None:
    job = waiting(user, pool="stale")
    with postgres.transaction() as tx:
        jobs.save(tx, replace(job, state=State.CANCELLED))
    assert run(stack, tmp_path, POOL="stale") == 0
    assert stack.moves(job.id)[-1] == (State.CANCELLED, 1)
    assert not any(queue.depth("stale").values())


def test_a_runner_that_nobody_starts_for_a_job_waits_for_its_first(stack: Stack, user: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as meanwhile:
        runner = meanwhile.submit(run, stack, tmp_path, POOL="host", WAIT_S="30")
        job = waiting(user, pool="host")
        assert runner.result() == 0
    stack.wait(job.id, State.AWAITING_REVIEW)
