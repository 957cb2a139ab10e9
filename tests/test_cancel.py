"""Calling a job off: it stops wherever it stands, its price comes back by one rule, and of two who end it one wins."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise, product
from typing import Any

import psutil
import pytest
import requests
from live import SMALL, TESTER, Stack, eventually
from making import a_job, a_report
from sqlalchemy import Connection

from functions.adapters import artifacts, grants, jobs, ledger, outbox, postgres, queue
from functions.domain import event, transfer
from functions.domain.errors import Failure, Rejected
from functions.domain.event import Actor, CancelRequested, Event
from functions.domain.job import MOVES, RUNNING, Job, State
from functions.domain.request import CancelRequest
from functions.hear import Heard, hear

pytestmark = pytest.mark.usefixtures("stack")
LONG = {"steps": 150, "width": 64, "height": 64}
SUBMITTED, DEBITED, QUEUED, DISPATCHING, IN_PROGRESS, AWAITING_REVIEW, COMPLETED, FAILED, CANCELLED = State
WAY = (DEBITED, QUEUED, DISPATCHING, IN_PROGRESS, AWAITING_REVIEW)
WORKER = "w-1"


def bring(tx: Connection, state: State) -> Job:
    """A new job of a new user, paid where it must be, brought to this state by legal moves."""
    user_id = f"u-{uuid.uuid4().hex[:12]}"
    grants.give(tx, TESTER, user_id, 10, id=uuid.uuid4().hex, reason="a test")
    job = a_job(user_id=user_id, credits=3)
    jobs.add(tx, job)
    for onward in WAY[: WAY.index(state) + 1] if state in WAY else ():
        if onward is DEBITED:
            ledger.post(tx, transfer.debit(job, authorised_by="a test", instruction="a test"))
        job = job.to(onward, worker=WORKER if onward in RUNNING else None)
        jobs.save(tx, job)
    return job


def brought_to(state: State) -> Job:
    with postgres.transaction() as tx:
        return bring(tx, state)


def now(job: Job) -> Job:
    with postgres.transaction() as tx:
        found = jobs.get(tx, job.id)
    assert found
    return found


def called_off_by(role: str, job: Job) -> CancelRequested:
    actor = Actor(user_id=job.user_id if role == "USER" else "an-admin", role=role)
    return CancelRequested.of(job_id=job.id, actor=actor, asked=CancelRequest(reason="changed my mind"))


def tell(function: str, news: Event) -> str | None:
    """Let a function hear this; gives the code of its refusal, if it refuses."""
    try:
        hear(function, Heard(source="/a/test", id=f"{news.id}:{uuid.uuid4().hex}", event=news))
    except Rejected as no:
        return no.code
    return None


def spoilt(job: Job, kind: Failure) -> event.RenderFailed:
    return event.RenderFailed(
        job_id=job.id, attempt=job.attempt, worker=WORKER, kind=kind, code="node_error", detail="d"
    )


def assert_agrees(job: Job) -> None:
    """Where the job stands, what it cost, what it left behind and what was told of it are one story."""
    with postgres.transaction() as tx:
        moves = jobs.history(tx, job.id)
        changes = [entry.change for entry in ledger.of_job(tx, transfer.account(job.user_id), job.id)]
        pictures = artifacts.of_jobs(tx, [job.id])
        told = [one.type.removeprefix("visionsuit.generator.").removesuffix(".v1") for one in outbox.story(tx, job.id)]
    states = [move.to_state for move in moves]
    assert all(b in MOVES[a] for a, b in pairwise(states)), states
    by_user = moves[-1].cause == "cancelled_by_user"
    back = (states[-1] is FAILED or states[-1] is CANCELLED) and not (by_user and states[-2] is IN_PROGRESS)
    assert changes == ([-job.credits, job.credits][: 1 + back] if DEBITED in states else []), states
    assert bool(pictures) == (AWAITING_REVIEW in states)
    ends = [name for name in ("job.awaiting_review", "job.failed", "job.cancelled") if name in told]
    assert ends == ([f"job.{states[-1]}"] if states[-1] in (AWAITING_REVIEW, FAILED, CANCELLED) else [])


# --- the price ---


@pytest.mark.parametrize(("state", "role"), list(product((SUBMITTED, *WAY[:-1]), ("USER", "ADMIN"))))
def test_the_price_comes_back_unless_the_user_stops_their_own_render(state: State, role: str) -> None:
    job = brought_to(state)
    assert tell("cancel", called_off_by(role, job)) is None
    off = now(job)
    assert (off.state, off.cause, off.detail) == (CANCELLED, f"cancelled_by_{role.lower()}", "changed my mind")
    with postgres.transaction() as tx:
        balance = ledger.balance(tx, transfer.account(job.user_id))
    assert balance == (7 if state is IN_PROGRESS and role == "USER" else 10)
    assert_agrees(job)


def test_calling_off_twice_is_calling_off_once() -> None:
    job = brought_to(QUEUED)
    for _ in range(3):
        assert tell("cancel", called_off_by("USER", job)) is None
    assert_agrees(job)


@pytest.mark.parametrize("state", [AWAITING_REVIEW, COMPLETED, FAILED])
def test_what_is_done_is_not_called_off_and_the_refusal_says_why(state: State) -> None:
    job = brought_to(AWAITING_REVIEW if state is COMPLETED else SUBMITTED if state is FAILED else state)
    if job.state is not state:
        with postgres.transaction() as tx:
            jobs.save(tx, job.to(state))
    with pytest.raises(Rejected, match=f"is {state}") as no:
        hear("cancel", Heard(source="/a/test", id=uuid.uuid4().hex, event=called_off_by("USER", job)))
    assert no.value.code == "too_late"
    assert now(job).state is state


def test_a_job_is_called_off_by_its_user_and_by_admins_and_by_nobody_else() -> None:
    job = brought_to(QUEUED)
    somebody = CancelRequested.of(job_id=job.id, actor=Actor(user_id="x", role="CURATOR"), asked=CancelRequest())
    assert tell("cancel", somebody) == "unknown_job"
    assert now(job).state is QUEUED
    tell("cancel", called_off_by("ADMIN", job))


def test_a_payment_that_comes_after_the_cancel_takes_nothing() -> None:
    job = brought_to(SUBMITTED)
    tell("cancel", called_off_by("USER", job))
    tell("debit", event.JobSubmitted(job_id=job.id, user_id=job.user_id, credits=job.credits))
    assert_agrees(job)


# --- on its way to the GPU ---


def in_redis(job: Job) -> bool:
    return queue.unknown(job.pool, [job.id]) == set()


def test_a_waiting_job_is_waited_for_no_more() -> None:
    job = brought_to(DEBITED)
    tell("dispatch", event.JobDebited(job_id=job.id, user_id=job.user_id, credits=job.credits))
    assert in_redis(job)
    tell("cancel", called_off_by("USER", job))
    assert not in_redis(job)
    assert_agrees(job)


def test_a_held_or_parked_job_is_held_no_more() -> None:
    both = [brought_to(DEBITED) for _ in range(2)]
    pool = both[0].pool
    queue.block(pool, both[0].user_id)
    queue.close(pool, "operator")
    try:
        for job in both:
            tell("dispatch", event.JobDebited(job_id=job.id, user_id=job.user_id, credits=job.credits))
        assert [found.where for job in both if (found := queue.standing(pool, job.id))] == ["held", "parked"]
        for job in both:
            tell("cancel", called_off_by("USER", job))
            assert not in_redis(job)
            assert_agrees(job)
    finally:
        queue.open_(pool, "operator")
        queue.unblock(pool, both[0].user_id)


def test_a_job_that_waits_for_its_next_try_never_gets_it() -> None:
    job = brought_to(IN_PROGRESS)
    tell("complete", spoilt(job, Failure.TRANSIENT))
    assert (now(job).state, now(job).attempt) == (QUEUED, 2)
    assert in_redis(job)
    tell("cancel", called_off_by("USER", job))
    assert not in_redis(job)
    assert_agrees(job)


def test_a_claimed_job_is_called_off_before_comfyui_has_heard_of_it(stack: Stack, user: str) -> None:
    core_api = stack.speaking_for(user)
    stack.behave(step_ms=200)
    with holding_comfyui(stack):
        job_id = core_api.ask(stack.request(**LONG))
        stack.wait(job_id, DISPATCHING)
        core_api.cancel(job_id)
        job = stack.wait(job_id, CANCELLED)
        assert stack.balance(user) == 100
    eventually(lambda: queue.unknown(job.pool, [job_id]) == {job_id})
    assert_agrees(job)
    assert not prompts(stack, job_id)


@contextmanager
def holding_comfyui(stack: Stack) -> Iterator[None]:
    """ComfyUI does not answer meanwhile, so that whoever has claimed a job gets no further."""
    comfyui = psutil.Process(stack.house.supervisor.pid("comfyui"))
    comfyui.suspend()
    try:
        yield
    finally:
        comfyui.resume()


# --- at the GPU ---


def prompts(stack: Stack, job_id: str) -> dict[str, list[str]]:
    """What became of the job's prompts in ComfyUI: the kinds of message in each one's history."""
    history = requests.get(f"{stack.house.comfyui_url}/history", timeout=5).json()
    return {
        prompt_id: [kind for kind, _ in entry["status"]["messages"]]
        for prompt_id, entry in history.items()
        if prompt_id.startswith(f"{job_id}-")
    }


def standing(stack: Stack) -> tuple[list[str], list[str]]:
    """The jobs whose prompts run, and wait, in ComfyUI."""
    found = requests.get(f"{stack.house.comfyui_url}/queue", timeout=5).json()
    return tuple([item[1].rsplit("-", 2)[0] for item in found[f"queue_{name}"]] for name in ("running", "pending"))  # type: ignore[return-value]


def test_a_cancelled_render_is_the_one_that_is_interrupted_and_the_other_goes_on(stack: Stack, user: str) -> None:
    stack.behave(step_ms=400)  # a minute: time enough for another runner to start
    core_api = stack.speaking_for(user)
    other_user = f"{user}-other"
    stack.grant(other_user, 100)
    first = core_api.ask(stack.request(**LONG))
    eventually(lambda: standing(stack)[0] == [first], within_s=40)
    second = stack.speaking_for(other_user).ask(stack.request(steps=5))
    eventually(lambda: standing(stack) == ([first], [second]), within_s=40)
    core_api.cancel(first)
    stack.wait(first, CANCELLED)
    stack.behave(step_ms=5)
    job = stack.wait(second, AWAITING_REVIEW)
    [messages] = eventually(lambda: prompts(stack, first)).values()
    assert "execution_interrupted" in messages
    [messages] = prompts(stack, second).values()
    assert "execution_interrupted" not in messages
    assert_agrees(job)
    assert_agrees(stack.wait(first, CANCELLED))
    eventually(lambda: queue.unknown(job.pool, [first]) == {first})


def test_a_cancelled_prompt_that_waits_in_comfyui_is_taken_out_and_the_running_one_is_left_alone(
    stack: Stack, user: str
) -> None:
    stack.behave(step_ms=250)
    core_api = stack.speaking_for(user)
    first = core_api.ask(stack.request(steps=100))  # 25 s: time enough for another runner to start
    eventually(lambda: standing(stack)[0] == [first], within_s=40)
    second = core_api.ask(stack.request(**LONG))
    eventually(lambda: standing(stack) == ([first], [second]), within_s=40)
    core_api.cancel(second)
    eventually(lambda: standing(stack) == ([first], []))
    assert_agrees(stack.wait(second, CANCELLED))
    job = stack.wait(first, AWAITING_REVIEW)
    [messages] = prompts(stack, first).values()
    assert "execution_interrupted" not in messages
    assert not prompts(stack, second)
    assert_agrees(job)


# --- two at once ---

Rival = tuple[State, Callable[[Job], tuple[str, Event]]]
RIVALS: dict[str, Rival] = {
    "the payment": (
        SUBMITTED,
        lambda job: ("debit", event.JobSubmitted(job_id=job.id, user_id=job.user_id, credits=job.credits)),
    ),
    "the pictures": (IN_PROGRESS, lambda job: ("complete", a_report(job.id, worker=WORKER))),
    "a retry": (IN_PROGRESS, lambda job: ("complete", spoilt(job, Failure.TRANSIENT))),
    "the last failure": (IN_PROGRESS, lambda job: ("complete", spoilt(job, Failure.PERMANENT))),
    "another cancel": (IN_PROGRESS, lambda job: ("cancel", called_off_by("ADMIN", job))),
}


def at_once(*acts: Callable[[], Any]) -> Sequence[Any]:
    """Do all of these at the same moment; gives what each gave."""
    barrier, found = threading.Barrier(len(acts)), [None] * len(acts)

    def run(place: int) -> None:
        barrier.wait()
        found[place] = acts[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("role", ["USER", "ADMIN"])
def test_a_cancel_and_its_rival_have_one_winner_however_often_they_meet(rival: str, role: str) -> None:
    begin, news = RIVALS[rival]
    ends = set()
    for _ in range(12):
        job = brought_to(begin)
        refusal, _ = at_once(partial(tell, "cancel", called_off_by(role, job)), partial(tell, *news(job)))
        end = now(job).state
        assert refusal == (None if end is CANCELLED else "too_late")
        assert end in (CANCELLED, AWAITING_REVIEW, FAILED)
        assert_agrees(job)
        ends.add(end)
    assert CANCELLED in ends or rival in ("the pictures", "the last failure")


def test_a_cancel_and_a_claim_have_one_winner(stack: Stack, user: str) -> None:
    core_api = stack.speaking_for(user)
    ids = []
    for _ in range(6):
        ids.append(core_api.ask(stack.request(**SMALL)))
        threading.Thread(target=core_api.cancel, args=(ids[-1],)).start()
    for job_id in ids:
        assert_agrees(stack.wait(job_id, CANCELLED, AWAITING_REVIEW))
