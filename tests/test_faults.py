"""What happens when something dies: the job is done all the same, paid once, and its pictures exist once.

Every test here breaks a real part of the running stack at a bad moment, and then only waits.
"""

import json

import psutil
import pytest
from live import Stack, eventually

from functions.adapters import artifacts, ledger, postgres, queue, storage
from functions.config import config
from functions.domain import transfer
from functions.domain.job import Job, State

SLOW = {"steps": 60, "width": 64, "height": 64}  # a second or two with the stand-in


def painting(stack: Stack, job_id: str) -> Job:
    """The job, once ComfyUI is at its steps."""
    stack.wait(job_id, State.IN_PROGRESS)
    eventually(lambda: (queue.progress(job_id) or {}).get("step"))
    job = stack.job(job_id)
    assert job
    return job


def runner_of(job: Job) -> psutil.Process:
    """The process that holds the job: its pid ends the worker's name."""
    return psutil.Process(int(str(job.worker).rsplit("-", 1)[1]))


def assert_done_once(stack: Stack, user: str, job: Job) -> None:
    """Awaiting review, paid once, each picture kept once and stored as recorded, the book at zero."""
    assert job.state is State.AWAITING_REVIEW
    with postgres.transaction() as tx:
        changes = [entry.change for entry in ledger.statement(tx, transfer.account(user)) if entry.job_id == job.id]
        kept = artifacts.of_jobs(tx, [job.id])
        assert ledger.imbalance(tx) == 0
    assert changes == [-job.credits]
    assert [picture.index for picture in kept] == list(range(job.images))
    assert all(storage.sha256(config().outputs_bucket, p.object_key) == p.sha256 for p in kept)


def test_a_runner_killed_while_it_paints_costs_an_attempt_and_nothing_else(stack: Stack, user: str) -> None:
    job_id = stack.speaking_for(user).ask(stack.request(**SLOW))
    runner_of(painting(stack, job_id)).kill()
    job = stack.wait(job_id, State.AWAITING_REVIEW)
    assert job.attempt == 2
    assert (State.QUEUED, 2) in stack.moves(job_id)
    assert_done_once(stack, user, job)


def test_a_runner_told_to_stop_gives_its_job_back_at_no_attempt(stack: Stack, user: str) -> None:
    job_id = stack.speaking_for(user).ask(stack.request(**SLOW))
    runner_of(painting(stack, job_id)).terminate()
    job = stack.wait(job_id, State.AWAITING_REVIEW)
    assert job.attempt == 1
    assert stack.moves(job_id).count((State.QUEUED, 1)) == 2
    assert_done_once(stack, user, job)


def test_a_runner_that_hangs_loses_its_lease_and_its_late_word_counts_for_nothing(stack: Stack, user: str) -> None:
    job_id = stack.speaking_for(user).ask(stack.request(**SLOW))
    runner = runner_of(painting(stack, job_id))
    runner.suspend()
    job = stack.wait(job_id, State.AWAITING_REVIEW)
    runner.resume()
    eventually(lambda: not runner.is_running())
    assert job.attempt == 2
    assert_done_once(stack, user, stack.job(job_id) or job)


def test_redis_emptied_while_jobs_wait_and_paint_is_filled_again(stack: Stack, user: str) -> None:
    core_api = stack.speaking_for(user)
    job_ids = [core_api.ask(stack.request(**SLOW)) for _ in range(4)]
    painting(stack, job_ids[0])
    queue.client().flushall()
    for job_id in job_ids:
        job = stack.wait(job_id, State.AWAITING_REVIEW, within_s=60)
        assert job.attempt == 1, "its runner lives on and gets its lease back"
        assert_done_once(stack, user, job)


def test_valkey_killed_and_its_data_deleted_loses_no_job(stack: Stack, user: str) -> None:
    job_id = stack.speaking_for(user).ask(stack.request(**SLOW))
    painting(stack, job_id)
    stack.kill("valkey")
    for kept in (stack.house.state.root / "valkey" / "appendonlydir").glob("*"):
        kept.unlink(missing_ok=True)
    assert_done_once(stack, user, stack.wait(job_id, State.AWAITING_REVIEW))


def test_events_wait_for_a_broker_that_is_down(stack: Stack, user: str) -> None:
    broker = psutil.Process(stack.house.supervisor.pid("broker"))
    job_id = stack.speaking_for(user).ask(stack.request(**SLOW))
    painting(stack, job_id)
    broker.suspend()  # down, and not started again as a dead one would be
    eventually(lambda: queue.progress(job_id) and queue.progress(job_id)["percent"] == 100)  # type: ignore[index]
    broker.kill()
    assert_done_once(stack, user, stack.wait(job_id, State.AWAITING_REVIEW))


@pytest.mark.parametrize("function", ["submit", "debit", "dispatch", "complete"])
def test_a_function_killed_as_its_event_arrives_answers_it_later(stack: Stack, user: str, function: str) -> None:
    stack.kill(function)
    job_id = stack.speaking_for(user).ask(stack.request())
    assert_done_once(stack, user, stack.wait(job_id, State.AWAITING_REVIEW))
    stack.house.supervisor.wait_ready(function)


def test_postgres_killed_while_a_job_is_painted_loses_nothing(stack: Stack, user: str) -> None:
    job_id = stack.speaking_for(user).ask(stack.request(**SLOW))
    painting(stack, job_id)
    stack.kill("postgres")
    stack.house.supervisor.wait_ready("postgres")
    assert_done_once(stack, user, stack.wait(job_id, State.AWAITING_REVIEW))


def test_every_event_told_twice_and_in_any_order_changes_nothing(stack: Stack, user: str, job_id: str) -> None:
    core_api = stack.speaking_for(user)
    for _ in range(3):
        core_api.emit("job.requested", subject=job_id, data=stack.request(), id=f"{job_id}:again", jti=job_id)
    job = stack.wait(job_id, State.AWAITING_REVIEW)
    moves = stack.moves(job_id)
    with postgres.transaction() as tx:
        letters = tx.exec_driver_sql(
            "UPDATE outbox SET told_at = NULL, retell_at = now() WHERE subject = %s RETURNING id", (job_id,)
        ).all()
    assert len(letters) >= 7
    with postgres.transaction() as tx:  # sweep tells all of it again, in no order
        untold = "SELECT count(*) FROM outbox WHERE subject = %s AND told_at IS NULL"
    eventually(lambda: _count(untold, job_id) == 0)
    assert stack.moves(job_id) == moves
    assert_done_once(stack, user, job)


def _count(sql: str, job_id: str) -> int:
    with postgres.transaction() as tx:
        return int(tx.exec_driver_sql(sql, (job_id,)).scalar_one())


@pytest.mark.parametrize("fault", ["node_error", "out_of_memory", "no_file", "drop_sockets", "deaf", "die"])
def test_a_comfyui_that_fails_once_costs_at_most_an_attempt(stack: Stack, user: str, fault: str) -> None:
    stack.behave(fault=fault, times=1)
    job_id = stack.speaking_for(user).ask(stack.request())
    job = stack.wait(job_id, State.AWAITING_REVIEW)
    assert job.attempt <= 2
    assert_done_once(stack, user, job)


def test_a_job_that_fails_every_time_is_refunded_once_and_buried_with_its_history(stack: Stack, user: str) -> None:
    stack.behave(fault="node_error", times=20)
    job_id = stack.speaking_for(user).ask(stack.request())
    job = stack.wait(job_id, State.FAILED, within_s=90)
    assert job.attempt == config().retries + 1
    assert job.cause == "node_error"
    assert stack.balance(user) == 100
    [record] = [json.loads(r["record"]) for _, r in queue.client().xrange(queue.DEAD) if r["job_id"] == job_id]
    assert [(e["attempt"], e["code"]) for e in record["errors"]] == [(n, "node_error") for n in (1, 2, 3, 4)]


def test_a_missing_model_file_fails_at_once_names_the_key_and_costs_nothing(stack: Stack, user: str) -> None:
    from functions.adapters import models

    lost = models.Model(kind="checkpoints", name="lost", object_key="checkpoints/lost", sha256=None, size_bytes=None)
    with postgres.transaction() as tx:
        models.register(tx, [lost])
    job_id = stack.speaking_for(user).ask(stack.request(model="lost"))
    job = stack.wait(job_id, State.FAILED)
    assert (job.cause, job.attempt) == ("object_missing", 1)
    assert "models/checkpoints/lost" in str(job.detail)
    assert stack.balance(user) == 100


def test_a_job_called_off_while_it_waits_never_starts_and_is_refunded(stack: Stack, user: str) -> None:
    core_api = stack.speaking_for(user)
    busy = [core_api.ask(stack.request(**SLOW)) for _ in range(2)]
    painting(stack, busy[0])
    job_id = core_api.ask(stack.request())
    stack.wait(job_id, State.QUEUED)
    core_api.cancel(job_id)
    stack.wait(job_id, State.CANCELLED)
    for other in busy:
        stack.wait(other, State.AWAITING_REVIEW)
    assert State.DISPATCHING not in [state for state, _ in stack.moves(job_id)]
    assert stack.balance(user) == 100 - sum(job.credits for other in busy if (job := stack.job(other)))


def test_a_render_called_off_is_stopped_and_frees_its_gpu(stack: Stack, user: str) -> None:
    stack.behave(step_ms=200)
    core_api = stack.speaking_for(user)
    job_id = core_api.ask(stack.request(steps=150))
    runner = runner_of(painting(stack, job_id))
    core_api.cancel(job_id)
    stack.wait(job_id, State.CANCELLED)
    eventually(lambda: not runner.is_running())
    stack.behave(step_ms=15)
    stack.wait(core_api.ask(stack.request()), State.AWAITING_REVIEW)


def test_two_jobs_that_only_one_can_be_paid_for_leave_one_paid_and_one_failed(stack: Stack) -> None:
    stack.grant("short", 1)
    core_api = stack.speaking_for("short")
    first, second = core_api.ask(stack.request()), core_api.ask(stack.request())
    jobs = [eventually(lambda id=id: stack.job(id) or _rejected(id)) for id in (first, second)]
    ended = [eventually(lambda job=job: _end(stack, job)) for job in jobs]
    assert sorted(ended) in (["awaiting_review", "failed"], ["awaiting_review", "rejected"])
    assert stack.balance("short") == 0


def _rejected(job_id: str) -> str | None:
    with postgres.transaction() as tx:
        found = tx.exec_driver_sql(
            "SELECT 1 FROM outbox WHERE subject = %s AND type LIKE '%%job.rejected%%'", (job_id,)
        ).first()
    return job_id if found else None


def _end(stack: Stack, job: Job | str) -> str | None:
    if isinstance(job, str):
        return "rejected"
    now = stack.job(job.id)
    return now.state if now and now.state in (State.AWAITING_REVIEW, State.FAILED) else None
