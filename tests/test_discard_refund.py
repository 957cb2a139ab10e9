"""What discarding a picture gives back, where an installation says so, and what taking the discard back takes."""

from collections.abc import Iterator

import pytest
from keeping import a_rendered_job, decide, report
from live import Stack

from functions.adapters import ledger, postgres
from functions.adapters.artifacts import Kept
from functions.config import config
from functions.domain import transfer
from functions.domain.errors import Rejected
from functions.domain.job import Job


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation that gives back half of a discarded picture's part, but for pictures that were merely boring."""
    monkeypatch.setenv("DISCARD_REFUND_PERCENT", "50")
    monkeypatch.setenv("DISCARD_REFUND_EXCLUDED", "boring")
    config.cache_clear()
    yield
    monkeypatch.undo()
    config.cache_clear()


@pytest.fixture
def paid(stack: Stack) -> tuple[Job, list[Kept]]:
    """A job of two pictures that cost 20 credits, and nothing left in its user's account."""
    job = a_rendered_job(b"one", b"two", credits=20)
    stack.grant(job.user_id, 20)
    with postgres.transaction() as tx:
        ledger.post(tx, transfer.debit(job, authorised_by=f"user:{job.user_id}", instruction="a test"))
    return job, report(job, b"one", b"two")


def test_a_discard_gives_back_its_part_and_its_undo_takes_it_again(
    stack: Stack, half: None, paid: tuple[Job, list[Kept]]
) -> None:
    job, [first, second] = paid
    for _ in range(2):
        decide(first, "discard", reason="blurred")
        assert stack.balance(job.user_id) == 5
        decide(first, "restore")
        assert stack.balance(job.user_id) == 0
    decide(second, "discard", reason="boring")
    assert stack.balance(job.user_id) == 0, "excluded"


def test_a_discard_whose_credits_are_spent_cannot_be_undone(
    stack: Stack, half: None, paid: tuple[Job, list[Kept]]
) -> None:
    job, [first, _] = paid
    decide(first, "discard", reason="blurred")
    again = a_rendered_job(b"three", user_id=job.user_id, credits=5)
    with postgres.transaction() as tx:
        ledger.post(tx, transfer.debit(again, authorised_by=f"user:{job.user_id}", instruction="a test"))
    with pytest.raises(Rejected, match="discarding it gave credits back") as no:
        decide(first, "restore")
    assert no.value.code == "insufficient_credits"
    with pytest.raises(Rejected, match="was discarded"):
        decide(first, "discard")


def test_where_nothing_is_said_a_discard_gives_nothing_back(stack: Stack, paid: tuple[Job, list[Kept]]) -> None:
    job, [first, _] = paid
    decide(first, "discard", reason="blurred")
    decide(first, "restore")
    assert stack.balance(job.user_id) == 0
