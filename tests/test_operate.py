"""Jobs that no retry could help: kept where nothing is lost, asked for once more in their users' names, or dropped."""

import getpass
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import Result
from live import Stack
from making import a_job
from typer.testing import CliRunner

from functions import operate
from functions.adapters import acts, dead_jobs, jobs, ledger, models, postgres, queue, storage
from functions.adapters.dead_jobs import DeadJob, Wanted
from functions.config import config
from functions.ctl import app
from functions.domain import transfer
from functions.domain.job import Job, State
from functions.operate import Outcome

BY = "user:an-admin"
PROMPT = "a heron nobody may read of"


pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def gone() -> str:
    """A model on offer whose file is not in the store: whatever asks for it fails for good, at the first try."""
    name = f"zz-{uuid.uuid4().hex[:8]}.safetensors"
    key = f"checkpoints/{name}"
    offer = models.Model(kind=models.CHECKPOINTS, name=name, object_key=key, sha256=None, size_bytes=None)
    with postgres.transaction() as tx:
        models.register(tx, [offer])
    return name


def bring_back(stack: Stack, gone: str) -> None:
    """Put the file there: another model's, under its name."""
    bucket = config().models_bucket
    with postgres.transaction() as tx:
        there = models.find(tx, models.CHECKPOINTS, stack.model).object_key
    source = {"Bucket": bucket, "Key": str(there)}
    storage.client().copy_object(Bucket=bucket, Key=f"checkpoints/{gone}", CopySource=source)  # type: ignore[arg-type]


def died(stack: Stack, user: str, gone: str, **fields: Any) -> Job:
    """A job of the user's that asked for what is not there, and has failed for good."""
    job_id = stack.speaking_for(user).ask(stack.request(model=gone, prompt=PROMPT, **fields))
    return stack.wait(job_id, State.FAILED)


def a_dead_one(*way: State, **fields: Any) -> Job:
    """A job that went this way and failed, in Postgres alone."""
    job = a_job(user_id=f"u-{uuid.uuid4().hex[:8]}", prompt=PROMPT, **fields)
    with postgres.transaction() as tx:
        assert jobs.add(tx, job)
        for state in way or (State.DEBITED, State.QUEUED, State.DISPATCHING):
            job = job.to(state, worker="w-1" if state is State.DISPATCHING else None)
            jobs.save(tx, job)
        job = job.to(State.FAILED, cause="node_error", detail="why")
        jobs.save(tx, job)
    return job


def letter(job_id: str) -> DeadJob:
    with postgres.transaction() as tx:
        found = dead_jobs.get(tx, job_id)
    assert found
    return found


def open_(**wanted: Any) -> set[str]:
    return {one.job_id for one in operate.each(Wanted(**wanted))}


def requeue(*job_ids: str) -> list[Outcome]:
    return list(operate.requeue(job_ids, by=BY, reason="mended"))


def drop(*job_ids: str) -> list[Outcome]:
    return list(operate.drop(job_ids, by=BY, reason="nobody misses it"))


# --- what is dead ---


def test_a_job_that_was_paid_and_failed_is_a_dead_one_with_what_went_wrong_in_each_attempt(
    stack: Stack, user: str, gone: str
) -> None:
    job = died(stack, user, gone)
    dead = letter(job.id)
    assert (dead.standing, dead.code, dead.kind, dead.attempts, dead.user_id) == (
        *("open", "object_missing", "permanent", 1),
        user,
    )
    with postgres.transaction() as tx:
        [error] = dead_jobs.errors(tx, job.id)
    assert (error.attempt, error.code, error.kind) == (1, "object_missing", "permanent")
    assert gone in str(error.detail)
    assert job.id in open_(user_id=user, code="object_missing", model=gone)
    assert open_(user_id=user, code="timeout") == set()


def test_more_dead_ones_than_a_page_holds_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.adapters.postgres.PAGE", 2)
    model = uuid.uuid4().hex
    ids = [a_dead_one(model=model).id for _ in range(5)]
    assert [one.job_id for one in operate.each(Wanted(model=model))] == ids


def test_a_job_that_was_never_paid_is_not_a_dead_one() -> None:
    job = a_job()
    with postgres.transaction() as tx:
        jobs.add(tx, job)
        jobs.save(tx, job.to(State.FAILED, cause="insufficient_credits"))
        assert dead_jobs.get(tx, job.id) is None


def test_the_dead_are_found_though_redis_has_lost_them(stack: Stack, user: str, gone: str) -> None:
    job = died(stack, user, gone)
    queue.client().delete(queue.DEAD)
    assert job.id in open_(user_id=user)


def test_an_attempt_that_was_drained_is_in_the_history_and_nobodys_failure() -> None:
    job = a_job()
    with postgres.transaction() as tx:
        jobs.add(tx, job)
        for state, changes in (
            (State.DEBITED, {}),
            (State.QUEUED, {}),
            (State.DISPATCHING, {"worker": "w-1"}),
            (State.QUEUED, {"cause": "given_back", "worker": None}),
            (State.DISPATCHING, {"worker": "w-2"}),
            (State.QUEUED, {"cause": "worker_lost", "worker": None, "attempt": 2}),
            (State.DISPATCHING, {"worker": "w-3"}),
            (State.FAILED, {"cause": "timeout"}),
        ):
            job = job.to(state, **changes)  # type: ignore[arg-type]
            jobs.save(tx, job)
        history = [(one.attempt, one.code, one.kind, one.worker) for one in dead_jobs.errors(tx, job.id)]
    assert history == [
        (1, "given_back", None, "w-1"),
        (1, "worker_lost", "worker_lost", "w-2"),
        (2, "timeout", "transient", "w-3"),
    ]


# --- asked for once more ---


def test_a_requeued_job_is_a_new_one_with_the_same_seed_and_parameters_paid_again_and_painted(
    stack: Stack, user: str, gone: str
) -> None:
    job = died(stack, user, gone, seed=str(2**64 - 7), boost=2, images=2)
    assert stack.balance(user) == 100
    bring_back(stack, gone)
    [done] = requeue(job.id)
    assert done == Outcome(job_id=job.id, requeued_as=f"{job.id}-r1")
    again = stack.wait(f"{job.id}-r1", State.AWAITING_REVIEW)
    same = (
        "user_id",
        "role",
        "prompt",
        "model",
        "seed",
        "parameters",
        "images",
        "boost",
        "credits",
        "workflow_version",
    )
    assert [getattr(again, name) for name in same] == [getattr(job, name) for name in same]
    assert stack.balance(user) == 100 - job.credits
    assert letter(job.id).standing == "requeued"
    assert job.id not in open_()
    with postgres.transaction() as tx:
        act = next(one for one in acts.latest(tx, limit=100) if one.subject == job.id)
    assert (act.by, act.act, act.reason) == (BY, "requeue", "mended")


def test_requeueing_twice_or_by_many_at_once_asks_once(stack: Stack, user: str, gone: str) -> None:
    job = died(stack, user, gone)
    with ThreadPoolExecutor(8) as crowd:
        outcomes = [one for some in crowd.map(lambda _: requeue(job.id), range(16)) for one in some]
    assert {one.requeued_as for one in outcomes} == {f"{job.id}-r1"}
    stack.wait(f"{job.id}-r1", State.FAILED)
    with postgres.transaction() as tx:
        changes = [entry.change for entry in ledger.statement(tx, transfer.account(user), limit=20)]
    assert sorted(changes) == sorted([100, *[-job.credits, job.credits] * 2])


def test_a_line_of_requeues_is_counted_from_the_job_that_was_asked_for_first(
    stack: Stack, user: str, gone: str
) -> None:
    job = died(stack, user, gone)
    requeue(job.id)
    stack.wait(f"{job.id}-r1", State.FAILED)
    [second] = requeue(f"{job.id}-r1")
    assert second.requeued_as == f"{job.id}-r2"
    assert letter(f"{job.id}-r1").root == job.id
    stack.wait(f"{job.id}-r2", State.FAILED)


def test_who_cannot_pay_is_told_so_and_the_job_waits_on(stack: Stack, gone: str) -> None:
    poor = f"poor-{uuid.uuid4().hex[:8]}"
    stack.grant(poor, 1)
    job = died(stack, poor, gone)
    with postgres.transaction() as tx:
        other = a_job(user_id=poor, credits=1)
        jobs.add(tx, other)
        assert ledger.post(tx, transfer.debit(other, authorised_by="a test", instruction="a test"))
    [refused] = requeue(job.id)
    assert (refused.code, refused.requeued_as) == ("insufficient_credits", None)
    assert letter(job.id).standing == "open"
    assert stack.job(f"{job.id}-r1") is None
    stack.grant(poor, 1)
    [done] = requeue(job.id)
    assert done.requeued_as == f"{job.id}-r1"
    stack.wait(f"{job.id}-r1", State.FAILED)


def test_a_requeue_that_could_not_be_paid_after_all_opens_the_letter_again(stack: Stack) -> None:
    job = a_dead_one()
    with postgres.transaction() as tx:
        dead = dead_jobs.locked(tx, job.id)
        assert dead
        dead_jobs.mark_requeued(tx, dead, by=BY)
        unpaid = a_job(id=dead.next_id, user_id=job.user_id)
        jobs.add(tx, unpaid)
        jobs.save(tx, unpaid.to(State.FAILED, cause="insufficient_credits"))
    assert letter(job.id).standing == "open"
    assert letter(job.id).next_id == f"{job.id}-r2"


def test_somebodys_own_job_of_that_name_is_not_taken_for_the_requeue() -> None:
    job = a_dead_one()
    with postgres.transaction() as tx:
        jobs.add(tx, a_job(id=f"{job.id}-r1", user_id=job.user_id))
    [refused] = requeue(job.id)
    assert refused.code == "job_exists"
    assert letter(job.id).standing == "open"


def test_an_id_stays_within_what_an_id_may_be_and_apart_from_others() -> None:
    long, other = "x" * 64, "x" * 63 + "y"
    ids = {letter(a_dead_one(id=name[:50] + uuid.uuid4().hex[:14]).id).next_id for name in (long, other)}
    assert {len(id) for id in ids} == {64}
    assert len(ids) == 2


# --- dropped ---


def test_a_dropped_one_is_listed_no_more_and_who_did_it_and_why_is_kept() -> None:
    job = a_dead_one()
    assert drop(job.id) == [Outcome(job_id=job.id)]
    assert drop(job.id) == [Outcome(job_id=job.id)]
    assert job.id not in open_()
    assert job.id in open_(settled=True, user_id=job.user_id)
    dead = letter(job.id)
    assert (dead.standing, dead.dropped_by, dead.dropped_why) == ("dropped", BY, "nobody misses it")
    [refused] = requeue(job.id)
    assert refused.code == "dropped"


def test_a_requeued_one_cannot_be_dropped_and_an_unknown_one_is_named() -> None:
    job = a_dead_one()
    with postgres.transaction() as tx:
        dead = dead_jobs.locked(tx, job.id)
        assert dead
        dead_jobs.mark_requeued(tx, dead, by=BY)
    assert [one.code for one in drop(job.id, "nobody")] == ["requeued", "unknown_dead_job"]


# --- from the command line ---


def vsgen(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["jobs", "dead", *map(str, arguments)])


def said(result: Result) -> Any:
    return json.loads(result.stdout)


def test_the_command_line_lists_and_shows_them_and_never_what_was_asked() -> None:
    job = a_dead_one()
    listed = vsgen("list", "--user", job.user_id, "--json")
    assert [one["job_id"] for one in said(listed)["jobs"]] == [job.id]
    shown = vsgen("show", job.id, "--json")
    assert [error["code"] for error in said(shown)["errors"]] == ["node_error"]
    for plain in (vsgen("list", "--user", job.user_id), vsgen("show", job.id), listed, shown):
        assert plain.exit_code == 0
        assert PROMPT not in plain.stdout
    assert vsgen("show", "nobody").exit_code == 1


def test_the_command_line_acts_on_what_is_named_and_on_nothing_when_nothing_is() -> None:
    one, other = a_dead_one(), a_dead_one()
    for nothing in (("requeue",), ("drop", "--reason", "x"), ("drop", one.id, "--all", "--reason", "x")):
        assert vsgen(*nothing).exit_code == 2
    assert vsgen("drop", one.id).exit_code == 2, "a drop wants its reason"
    done = vsgen("drop", "--user", one.user_id, "--reason", "x", "--json")
    assert (done.exit_code, said(done)["dropped"]) == (0, [one.id])
    assert letter(one.id).dropped_by == f"vsgen:{getpass.getuser()}"
    assert letter(other.id).standing == "open"
    mixed = vsgen("drop", other.id, "nobody", "--reason", "x", "--json")
    assert mixed.exit_code == 1
    assert said(mixed)["problems"]["nobody"]["code"] == "unknown_dead_job"


def test_the_command_line_asks_once_more(stack: Stack, user: str, gone: str) -> None:
    job = died(stack, user, gone)
    done = vsgen("requeue", "--user", user, "--model", gone, "--json")
    assert (done.exit_code, said(done)["requeued"]) == (0, {job.id: f"{job.id}-r1"})
    stack.wait(f"{job.id}-r1", State.FAILED)
