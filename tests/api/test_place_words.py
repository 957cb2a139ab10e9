"""A job's place, explained: the terms are the sum, and the words say what they are worth."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from making import a_job

from functions.adapters.controls import PoolControl
from functions.adapters.queue import Standing
from functions.api.place import held_because, terms, words
from functions.domain.job import Job, State
from functions.domain.place import HEAD_START_MS, due_ms, head_start_ms

NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
MINUTE_MS = 60_000


def job(*, role: str = "CURATOR", boost: int = 0, behind_ms: int = 0, state: State = State.QUEUED) -> Job:
    start_ms = round(NOW.timestamp() * 1000) + behind_ms
    return a_job(
        role=role,
        boost=boost,
        pool="default",
        state=state,
        start_ms=start_ms,
        due_ms=due_ms(start_ms=start_ms, head_start_ms=head_start_ms(role, boost)),
        submitted_at=NOW,
    )


def standing(where: str, ahead: int | None = None) -> Standing:
    return Standing(where=where, ahead=ahead)


@pytest.mark.parametrize("role", ["ADMIN", "CURATOR", "USER", "LOW", "UNHEARD-OF"])
@pytest.mark.parametrize("boost", [0, 5])
@pytest.mark.parametrize("behind_ms", [0, 90_000])
def test_the_terms_sum_up_to_the_place(role: str, boost: int, behind_ms: int) -> None:
    one = job(role=role, boost=boost, behind_ms=behind_ms)
    assert sum(term.value_ms for term in terms(one, worth_ms=HEAD_START_MS)) == one.due_ms


def test_a_job_that_has_no_place_yet_is_told_the_one_it_will_have_at_least() -> None:
    one = replace(job(), start_ms=None)
    assert sum(term.value_ms for term in terms(one, worth_ms=HEAD_START_MS)) == one.due_ms


def test_each_term_says_what_it_is_worth() -> None:
    assert [term.words for term in terms(job(boost=5, behind_ms=7 * MINUTE_MS), worth_ms=HEAD_START_MS)] == [
        "asked for at 2026-03-01 12:30:15 UTC",
        "behind your own earlier work: 7 minutes, its fair share of the pool",
        "CURATOR: 30 minutes head start",
        "a boost of 5 credits: 30 minutes more head start",
    ]
    assert terms(job(), worth_ms=HEAD_START_MS)[1].words == "behind no work of your own"
    assert terms(job(role="ADMIN"), worth_ms=HEAD_START_MS)[2].words == "ADMIN: ahead of everybody else"


def test_the_place_is_said_in_one_sentence() -> None:
    assert words(job(), standing("queue", 0)) == "The job is next in pool default."
    assert words(job(), standing("queue", 1)) == "1 job runs before this one in pool default."
    assert words(job(), standing("queue", 7)) == "7 jobs run before this one in pool default."
    assert words(job(), standing("held", 2)) == "The job is held, behind 2 jobs in pool default."
    assert words(job(), standing("delayed")) == "The job waits for the moment of its next try."
    assert words(job(), standing("leased")) == "A GPU is about to take the job."
    assert words(job(), None) == "The line cannot be seen right now; the job keeps its place."
    assert "in a moment" in words(job(state=State.DEBITED), None)
    assert "does not wait" in words(job(state=State.COMPLETED), None)


def test_why_a_job_is_held_or_parked_is_said() -> None:
    order = PoolControl(pool="default", mode="paused", reason="new drivers", by="ops", at=NOW)
    held, parked = standing("held", 2), standing("parked", 0)
    assert held_because(job(), standing("queue", 0), order=None, blocked=False) is None
    assert held_because(job(), parked, order=order, blocked=False) == (
        "An operator has closed pool default: new drivers."
    )
    assert held_because(job(), parked, order=None, blocked=False) == "Pool default runs as many jobs as it may."
    assert held_because(job(), held, order=None, blocked=True) == "An operator holds this user's jobs back."
    assert held_because(job(), held, order=None, blocked=False) == (
        "While others wait, pool default runs at most 2 of one user at once."
    )
