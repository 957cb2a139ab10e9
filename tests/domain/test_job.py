"""Where a job may go, and whose word about it counts."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import NOW, a_job

from functions.domain.errors import IllegalMove
from functions.domain.job import FINISHED, LIVE, MOVES, RUNNING, State

HAPPY = (
    *(State.SUBMITTED, State.DEBITED, State.QUEUED, State.DISPATCHING),
    *(State.IN_PROGRESS, State.AWAITING_REVIEW, State.COMPLETED),
)
states = st.sampled_from(State)


def test_a_job_that_meets_no_trouble_goes_from_submitted_to_completed() -> None:
    for state, onward in pairwise(HAPPY):
        assert a_job(state=state).to(onward).state is onward


def test_every_state_has_its_moves_told() -> None:
    assert set(MOVES) == set(State)


def test_every_unfinished_job_can_fail_and_be_called_off() -> None:
    for state in set(State) - FINISHED:
        assert {State.FAILED, State.CANCELLED} <= MOVES[state]


def test_a_finished_job_goes_nowhere() -> None:
    assert {State.COMPLETED, State.FAILED, State.CANCELLED} == FINISHED
    assert not any(MOVES[state] for state in FINISHED)


def test_only_a_running_job_goes_back_and_only_to_the_queue() -> None:
    back = {(s, t) for s, t in product(HAPPY, HAPPY) if t in MOVES[s] and HAPPY.index(t) <= HAPPY.index(s)}
    assert back == {(State.DISPATCHING, State.QUEUED), (State.IN_PROGRESS, State.QUEUED)}


@given(states, states)
def test_a_move_that_is_not_in_the_table_raises_and_names_job_and_states(state: State, onward: State) -> None:
    job = a_job(state=state)
    if onward in MOVES[state]:
        assert job.to(onward).state is onward
    else:
        with pytest.raises(IllegalMove, match=f"{job.id}: {state} -> {onward}"):
            job.to(onward)


def test_a_move_keeps_the_reason_it_was_made_for_and_forgets_the_last_one() -> None:
    failed_once = a_job(state=State.IN_PROGRESS).to(State.QUEUED, cause="comfyui_lost", detail="gone", attempt=2)
    assert (failed_once.cause, failed_once.detail, failed_once.attempt) == ("comfyui_lost", "gone", 2)
    claimed = failed_once.to(State.DISPATCHING, worker="w-1")
    assert (claimed.cause, claimed.detail, claimed.worker) == (None, None, "w-1")


def test_a_move_leaves_the_job_it_started_from_as_it_was() -> None:
    job = a_job()
    job.to(State.DEBITED)
    assert job.state is State.SUBMITTED


@given(states, st.sampled_from(["w-1", "w-2"]), st.integers(1, 3))
def test_a_runners_word_counts_while_the_job_runs_in_its_hands_on_its_attempt(s: State, worker: str, n: int) -> None:
    job = a_job(state=s, worker="w-1", attempt=2)
    assert job.held_by(worker, n) == (s in RUNNING and worker == "w-1" and n == 2)


def test_jobs_that_redis_must_know_of_are_the_waiting_and_the_running() -> None:
    assert {State.QUEUED, State.DISPATCHING, State.IN_PROGRESS} == LIVE


def test_the_news_of_a_move_tells_where_from_where_to_when_and_why() -> None:
    job = a_job(state=State.QUEUED, attempt=2, cause="comfyui_lost", changed_at=NOW)
    assert job.told(was=State.IN_PROGRESS) == {
        "job_id": job.id,
        "attempt": 2,
        "user_id": "u-1",
        "previous": "in_progress",
        "state": "queued",
        "at": NOW,
        "cause": "comfyui_lost",
        "worker": None,
    }


def test_the_news_of_a_move_names_a_worker_only_while_one_holds_the_job() -> None:
    named = {s for s in State if a_job(state=s, worker="w-1").told(was=State.QUEUED)["worker"]}
    assert named == RUNNING
