"""The ledger: no overdraft, nothing twice, whoever posts and however many at once."""

import uuid
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from book import all_at_once, balance, debit, granted, kept, paid, post, refund, statement
from sqlalchemy.exc import DBAPIError

from functions.adapters import ledger, postgres
from functions.domain import transfer
from functions.domain.errors import InsufficientCredits
from functions.domain.event import CreditsTransferred
from functions.domain.transfer import Transfer

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def ann() -> str:
    """A user nobody has heard of."""
    return f"ann-{uuid.uuid4().hex[:8]}"


def test_a_user_nobody_has_heard_of_has_nothing(ann: str) -> None:
    assert balance(ann) == 0
    assert statement(ann) == []


def test_a_transfer_moves_whole_credits_and_tells_of_it(ann: str) -> None:
    granted(ann, 10)
    job = kept(ann, 4)
    assert post(debit(job)) == CreditsTransferred(
        job_id=job.id,
        transfer_id=f"{job.id}:debit",
        debit_account=f"user:{ann}",
        credit_account="revenue",
        amount=4,
        reason="debit",
    )
    assert balance(ann) == 6


def test_the_same_transfer_posted_again_moves_nothing_and_tells_nothing(ann: str) -> None:
    granted(ann, 10)
    price = debit(kept(ann, 4))
    assert [post(price) is not None, post(price), post(price)] == [True, None, None]
    assert balance(ann) == 6
    assert len(statement(ann)) == 2


def test_an_account_that_is_short_pays_nothing_and_hears_how_much_is_missing(ann: str) -> None:
    granted(ann, 3)
    with pytest.raises(InsufficientCredits, match=f"user:{ann} holds 3 credits, 4 are needed: 1 short"):
        post(debit(kept(ann, 4)))
    assert balance(ann) == 3
    assert len(statement(ann)) == 1


def test_a_transaction_that_ends_badly_has_moved_nothing(ann: str) -> None:
    granted(ann, 10)
    with pytest.raises(ZeroDivisionError), postgres.transaction() as tx:
        ledger.post(tx, debit(kept(ann, 4)))
        raise ZeroDivisionError
    assert balance(ann) == 10


def test_debits_at_the_same_time_cannot_overdraw(ann: str) -> None:
    granted(ann, 10)
    said = all_at_once(*(partial(post, debit(kept(ann, 3))) for _ in range(6)))
    assert sum(isinstance(one, CreditsTransferred) for one in said) == 3
    assert sum(isinstance(one, InsufficientCredits) for one in said) == 3
    assert balance(ann) == 1


def test_the_same_transfer_posted_by_many_at_once_is_posted_by_one(ann: str) -> None:
    granted(ann, 10)
    price = debit(kept(ann, 3))
    said = all_at_once(*(partial(post, price) for _ in range(6)))
    assert sum(one is not None for one in said) == 1
    assert balance(ann) == 7


def test_the_first_credits_of_a_new_user_may_come_from_many_at_once(ann: str) -> None:
    all_at_once(*(partial(granted, ann, 5) for _ in range(6)))
    assert balance(ann) == 30


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": 3},
        {"amount": -5},
        {"credit_account": "user:eve"},
        {"debit_account": "treasury", "credit_account": "revenue"},
        {"debit_account": "user:eve"},
        {"credit_account": "treasury"},
        {"credit_account": "a pocket"},
        {"job_id": None},
        {"reason": "gift"},
        {"undoes": "treasure"},
    ],
)
def test_a_transfer_that_makes_no_sense_is_refused_by_the_database(ann: str, change: dict[str, Any]) -> None:
    granted(ann, 10)
    with pytest.raises(DBAPIError):
        post(Transfer(**vars(debit(kept(ann, 4))) | change))
    assert balance(ann) == 10


def test_a_job_is_debited_once_under_whatever_id(ann: str) -> None:
    granted(ann, 10)
    job = paid(ann, 4)
    with pytest.raises(DBAPIError, match="one_debit"):
        post(Transfer(**vars(debit(job)) | {"id": "another"}))


def test_a_job_of_a_teams_is_paid_from_the_teams_account_and_names_who_spent_it(ann: str) -> None:
    granted(ann, 10)
    job = kept(ann, 4, payer=f"pool:{ann}s")
    with pytest.raises(InsufficientCredits, match=f"pool:{ann}s holds 0 credits"):
        post(debit(job))
    with pytest.raises(DBAPIError, match="not whoever pays"):
        post(Transfer(**vars(debit(job)) | {"debit_account": f"user:{ann}"}))
    assert debit(job).spender == ann
    assert balance(ann) == 10


def test_a_statement_explains_the_balance_line_by_line_newest_first(ann: str) -> None:
    granted(ann, 10)
    job = paid(ann, 4)
    post(refund(job))
    assert [(e.reason, e.kind, e.change, e.balance) for e in statement(ann)] == [
        ("refund", "failed", 4, 10),
        ("debit", "price", -4, 6),
        ("grant", "admin", 10, 10),
    ]
    first_two = statement(ann, limit=2)
    assert statement(ann, before=(first_two[-1].at, first_two[-1].id)) == statement(ann)[2:]


def test_what_a_job_did_to_the_account_that_paid_is_told_by_itself(ann: str) -> None:
    granted(ann, 10)
    paid(ann, 1)
    job = paid(ann, 4)
    post(refund(job))
    with postgres.transaction() as tx:
        assert [e.change for e in ledger.of_job(tx, transfer.account(ann), job.id)] == [-4, 4]


def test_rows_made_at_the_same_time_are_dated_in_the_order_they_were_made(ann: str) -> None:
    granted(ann, 100)
    all_at_once(*(partial(post, debit(kept(ann, n))) for n in range(1, 8)))
    lines = statement(ann)
    assert all(newer.balance == older.balance + newer.change for newer, older in pairwise(lines))


def test_every_row_says_whose_instruction_it_was_and_which_login_posted_it(ann: str) -> None:
    granted(ann, 10)
    job = kept(ann, 4)
    post(Transfer(**vars(debit(job)) | {"authorised_by": f"user:{ann}", "instruction": f"{job.id}:job.requested"}))
    [line, _] = statement(ann)
    assert (line.authorised_by, line.instruction) == (f"user:{ann}", f"{job.id}:job.requested")
    with pytest.raises(DBAPIError, match="proofs"):
        post(Transfer(**vars(debit(kept(ann, 1))) | {"instruction": None}))
