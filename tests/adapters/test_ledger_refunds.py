"""What comes back of a price: all of it once, parts of it, never more than was paid; and what is taken back again."""

import uuid
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from book import PROOFS, all_at_once, balance, debit, granted, kept, paid, post, refund, statement
from sqlalchemy.exc import DBAPIError

from functions.domain import transfer
from functions.domain.errors import InsufficientCredits
from functions.domain.event import CreditsTransferred
from functions.domain.job import Job
from functions.domain.transfer import DiscardPolicy, Kind, Transfer

pytestmark = pytest.mark.usefixtures("stack")
HALF = DiscardPolicy(percent=50)


@pytest.fixture
def ann() -> str:
    """A user with ten credits."""
    user = f"ann-{uuid.uuid4().hex[:8]}"
    granted(user, 10)
    return user


def discard(job: Job, index: int, *, times: int = 1) -> CreditsTransferred | None:
    made = transfer.discarded(job, index, HALF, reason="blurred", times=times, **PROOFS)
    return post(made) if made else None


def restore(job: Job, index: int, *, times: int = 1) -> CreditsTransferred | None:
    return post(transfer.restored(job, index, times=times, **PROOFS))


def missing(job: Job, produced: int) -> CreditsTransferred | None:
    made = transfer.missing(job, produced, **PROOFS)
    return post(made) if made else None


def amount(told: CreditsTransferred | None) -> int:
    return told.amount if told else 0


def test_a_job_is_refunded_exactly_once_and_only_if_it_was_paid(ann: str) -> None:
    job = kept(ann, 4)
    with pytest.raises(DBAPIError, match="is no such debit"):
        post(refund(job))
    post(debit(job))
    said = all_at_once(*(partial(post, refund(job)) for _ in range(4)))
    assert sum(isinstance(one, CreditsTransferred) for one in said) == 1
    assert balance(ann) == 10


@pytest.mark.parametrize("kind", [Kind.FAILED, Kind.CANCELLED, Kind.MODERATION])
def test_whatever_it_is_refunded_for_a_job_is_refunded_once(ann: str, kind: Kind) -> None:
    job = paid(ann, 4)
    assert amount(post(transfer.refund(job, kind, **PROOFS))) == 4
    assert post(refund(job)) is None
    assert balance(ann) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"credit_account": "user:eve"},
        {"amount": 5},
        {"amount": 0},
        {"amount": -1},
        {"job_id": None},
        {"undoes": None},
        {"debit_account": "revenue"},
        {"debit_account": "treasury"},
        {"kind": "price"},
    ],
)
def test_a_refund_that_is_not_of_that_debit_is_refused(ann: str, change: dict[str, Any]) -> None:
    job = paid(ann, 4)
    with suppress(DBAPIError):
        assert post(Transfer(**vars(refund(job)) | change)) is None
    assert (balance(ann), balance("eve")) == (6, 0)


def test_another_refund_after_the_full_one_gives_nothing_under_whatever_id(ann: str) -> None:
    job = paid(ann, 4)
    post(refund(job))
    assert post(Transfer(**vars(refund(job)) | {"id": "another:refund"})) is None
    assert balance(ann) == 10


def test_pictures_that_a_batch_did_not_produce_come_back_once(ann: str) -> None:
    job = paid(ann, 7, images=4)
    assert amount(missing(job, 3)) == 2
    assert missing(job, 3) is None
    assert balance(ann) == 5


def test_a_full_refund_after_parts_gives_back_what_is_left(ann: str) -> None:
    job = paid(ann, 7, images=4)
    missing(job, 3)
    assert amount(discard(job, 1)) == 1
    assert amount(post(refund(job))) == 4
    assert balance(ann) == 10


def test_parts_that_would_add_up_to_more_than_was_paid_stop_at_what_was_paid(ann: str) -> None:
    job = paid(ann, 3, images=8)
    assert amount(missing(job, 1)) == 3
    assert discard(job, 7) is None
    assert balance(ann) == 10


def test_no_more_than_half_of_a_price_comes_back_for_discards(ann: str) -> None:
    job = paid(ann, 9, images=4)
    assert sum(amount(discard(job, index)) for index in range(4)) == 4
    part = transfer.discarded(job, 3, HALF, reason="", **PROOFS)
    assert part
    with pytest.raises(DBAPIError, match="generator_credit_refund"):
        post(Transfer(**vars(part) | {"id": f"{job.id}:refund:forged"}))
    assert balance(ann) == 5


def test_a_discard_that_is_undone_takes_its_refund_back_once(ann: str) -> None:
    job = paid(ann, 8, images=2)
    assert amount(discard(job, 0)) == 2
    said = all_at_once(*(partial(restore, job, 0) for _ in range(4)))
    assert [amount(one) for one in said if isinstance(one, CreditsTransferred)] == [2]
    assert balance(ann) == 2
    assert [(e.kind, e.change) for e in statement(ann)[:2]] == [("undo", -2), ("discard", 2)]


def test_a_picture_that_is_discarded_again_gives_back_again(ann: str) -> None:
    job = paid(ann, 8, images=2)
    for times in (1, 2, 3):
        assert amount(discard(job, 0, times=times)) == 2
        assert discard(job, 0, times=times) is None
        assert amount(restore(job, 0, times=times)) == 2
    assert balance(ann) == 2


def test_an_undo_that_the_account_cannot_pay_is_refused(ann: str) -> None:
    job = paid(ann, 10, images=2)
    assert amount(discard(job, 0)) == 2
    paid(ann, 1)
    with pytest.raises(InsufficientCredits, match="holds 1 credits, 2 are needed"):
        restore(job, 0)
    assert balance(ann) == 1


def test_undoing_a_discard_that_gave_nothing_back_takes_nothing(ann: str) -> None:
    job = paid(ann, 8, images=2)
    assert restore(job, 0) is None
    assert balance(ann) == 2


def test_an_undo_takes_back_a_discard_and_no_other_refund(ann: str) -> None:
    job = paid(ann, 7, images=4)
    missing(job, 3)
    undo = transfer.restored(job, 0, **PROOFS)
    assert post(Transfer(**vars(undo) | {"undoes": f"{job.id}:refund:missing"})) is None
    assert balance(ann) == 5
