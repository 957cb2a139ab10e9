"""A job's place, explained: the terms are the sum, and the words say what they are worth."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from functions.api.place import terms, words
from functions.domain.job import Job, State
from functions.domain.place import due_ms

NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)


def job(*, role: str = "CURATOR", boost: int = 0, state: State = State.QUEUED) -> Job:
    return Job(
        id="job-1",
        user_id="ada",
        role=role,
        pool="default",
        state=state,
        prompt="a heron",
        negative_prompt="",
        workflow_id="txt2img",
        workflow_version="1.0.0",
        workflow_sha256="0" * 64,
        model="river",
        seed=1,
        parameters={},
        images=1,
        credits=1,
        boost=boost,
        due_ms=due_ms(submitted_ms=round(NOW.timestamp() * 1000), role=role, boost=boost),
        submitted_at=NOW,
        changed_at=NOW,
    )


@pytest.mark.parametrize("role", ["ADMIN", "CURATOR", "USER", "LOW", "UNHEARD-OF"])
@pytest.mark.parametrize("boost", [0, 5])
def test_the_terms_sum_up_to_the_place(role: str, boost: int) -> None:
    one = job(role=role, boost=boost)
    assert sum(term.value_ms for term in terms(one)) == one.due_ms


def test_each_term_says_what_it_is_worth() -> None:
    assert [term.words for term in terms(job(boost=5))] == [
        "asked for at 2026-03-01 12:30:15 UTC",
        "CURATOR: 30 minutes head start",
        "a boost of 5 credits: 30 minutes more head start",
    ]


def test_the_place_is_said_in_one_sentence() -> None:
    assert words(job(), 0) == "The job is next in pool default."
    assert words(job(), 1) == "1 job runs before this one in pool default."
    assert words(job(), 7) == "7 jobs run before this one in pool default."
    assert words(replace(job(), run_at=NOW), None) == "The job waits for the moment of its next try."
    assert "does not wait" in words(job(state=State.COMPLETED), None)
