"""What an event is called, and that the same fact always carries the same id and another fact another."""

from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from making import NOW

from functions.domain import event
from functions.domain.event import BY_TYPE, Actor, Asked, Attempted, JobMoved
from functions.domain.request import CancelRequest

ASKED_OF = {
    "job.requested": "submit",
    "job.cancel_requested": "cancel",
    "review.decided": "review",
    "credits.earned": "earn",
    "grant.approved": "earn",
    "job.submitted": "debit",
    "job.debited": "dispatch",
    "render.succeeded": "complete",
    "render.failed": "complete",
}
TOLD_THE_WORLD = {
    *("job.queued", "job.dispatching", "job.in_progress", "job.awaiting_review"),
    *("job.completed", "job.failed", "job.cancelled", "job.rejected"),
    *("artifact.accepted", "artifact.discarded", "artifact.restored", "artifact.purged", "credits.transferred"),
}


def moved(cls: type[JobMoved] = event.JobQueued, **fields: Any) -> JobMoved:
    plain = {"job_id": "j", "attempt": 1, "user_id": "u", "previous": "debited", "state": "queued", "at": NOW}
    return cls(**plain | fields)


def test_every_type_is_the_name_between_prefix_and_version() -> None:
    assert {type_: f"visionsuit.generator.{cls.name}.v1" for type_, cls in BY_TYPE.items()} == {t: t for t in BY_TYPE}


def test_the_events_there_are_are_the_ones_written_here() -> None:
    assert {cls.name for cls in BY_TYPE.values()} == set(ASKED_OF) | TOLD_THE_WORLD


def test_each_event_names_the_one_function_that_must_hear_it_or_none() -> None:
    assert {cls.name: cls.heard_by for cls in BY_TYPE.values() if cls.heard_by} == ASKED_OF


def test_no_two_events_share_a_name() -> None:
    assert len({cls.name for cls in BY_TYPE.values()}) == len(BY_TYPE)


def test_the_same_fact_has_the_same_id() -> None:
    assert moved(at=NOW).id == moved(at=NOW.replace(year=2030), cause="told again").id


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.sampled_from([None, "w-1", "w-2"])), max_size=9))
def test_another_job_attempt_or_worker_is_another_fact(facts: list[tuple[str, int, str | None]]) -> None:
    ids = {fact: moved(job_id=fact[0], attempt=fact[1], worker=fact[2]).id for fact in facts}
    assert len(set(ids.values())) == len(set(facts))


def test_the_steps_of_one_attempt_are_facts_of_their_own() -> None:
    steps = [cls for cls in BY_TYPE.values() if issubclass(cls, JobMoved) and cls is not event.JobAwaitingReview]
    ids = [moved(cls).id for cls in steps]
    assert len(set(ids)) == len(steps)


def test_a_job_given_back_and_claimed_anew_on_the_same_attempt_tells_new_facts() -> None:
    told = [
        moved(),
        moved(event.JobDispatching, worker="w-1"),
        moved(worker="w-1", cause="given_back"),
        moved(event.JobDispatching, worker="w-2"),
    ]
    assert all(one.id != other.id for one, other in combinations(told, 2))


def test_a_wish_is_the_same_wish_whatever_it_says() -> None:
    asker = Actor(user_id="u", role="CURATOR")
    wishes = [event.CancelRequested(job_id="j", actor=asker, asked=CancelRequest(reason=why)) for why in ("", "tired")]
    assert wishes[0].id == wishes[1].id == "j:job.cancel_requested"


def test_what_happens_to_two_pictures_or_in_two_transfers_of_a_job_is_told_apart() -> None:
    discarded = [
        event.ArtifactDiscarded(
            job_id="j", artifact_id=a, user_id="u", reviewer_id="u", reason="", purged_after=NOW, decisions=n
        )
        for a, n in (("a", 1), ("b", 1), ("a", 3))  # the last after a restoration
    ]
    paid = [
        event.CreditsTransferred(
            job_id="j", transfer_id=f"j:{why}", debit_account="a", credit_account="b", amount=1, reason=why
        )
        for why in ("debit", "refund")
    ]
    assert len({told.id for told in (*discarded, *paid)}) == 5


def test_only_wishes_come_from_outside_and_only_attempts_are_counted() -> None:
    asked = {cls.name for cls in BY_TYPE.values() if issubclass(cls, Asked)}
    assert asked == {"job.requested", "job.cancel_requested", "review.decided", "credits.earned"}
    assert issubclass(event.RenderFailed, Attempted)
