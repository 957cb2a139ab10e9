"""Which credits move where, and what makes a transfer the same transfer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import a_job

from functions.domain import transfer
from functions.domain.transfer import REFUND_RESERVE, REVENUE, TREASURY, DiscardPolicy, Kind, Reason

BY: dict[str, Any] = {"authorised_by": "user:ann", "instruction": "signed"}


def test_a_debit_moves_the_price_from_the_user_to_revenue() -> None:
    paid = transfer.debit(a_job(id="j", user_id="ann", credits=5, quote_id="q", token_id="t"), **BY)
    assert (paid.debit_account, paid.credit_account, paid.amount) == ("user:ann", REVENUE, 5)
    assert (paid.id, paid.reason, paid.kind, paid.job_id, paid.undoes) == ("j:debit", Reason.DEBIT, "price", "j", None)
    assert (paid.quote_id, paid.token_id, paid.spender) == ("q", "t", None)


def test_a_job_of_a_teams_is_paid_by_the_team_and_names_who_spent_it() -> None:
    job = a_job(user_id="ann", payer="pool:studio")
    paid, back = transfer.debit(job, **BY), transfer.refund(job, Kind.FAILED, **BY)
    assert (paid.debit_account, paid.spender) == ("pool:studio", "ann")
    assert back.credit_account == "pool:studio"


@given(st.integers(1, 10**6))
def test_a_refund_gives_the_price_back_from_the_reserve_and_names_the_debit(credits: int) -> None:
    job = a_job(credits=credits, boost=1)
    paid, back = transfer.debit(job, **BY), transfer.refund(job, Kind.CANCELLED, **BY)
    assert (back.debit_account, back.credit_account) == (REFUND_RESERVE, paid.debit_account)
    assert (back.amount, back.undoes, back.job_id, back.reason) == (paid.amount, paid.id, job.id, Reason.REFUND)
    assert back.kind == "cancelled"


def test_a_grant_comes_from_the_treasury_and_belongs_to_its_occasion() -> None:
    first = transfer.grant("ann", 10, key="welcome", authorised_by="platform")
    assert (first.debit_account, first.credit_account, first.reason) == (TREASURY, "user:ann", Reason.GRANT)
    assert first.id == transfer.grant("ann", 99, key="welcome", authorised_by="somebody else").id
    others = (
        transfer.grant("bob", 10, key="welcome", authorised_by="p"),
        transfer.grant("ann", 10, key="birthday", authorised_by="p"),
        transfer.achievement("ann", 10, name="welcome", **BY),
    )
    assert len({first.id, *(other.id for other in others)}) == 4


def test_the_transfers_of_a_job_have_one_id_each_however_often_they_are_made() -> None:
    job = a_job(images=4, credits=40)
    half = DiscardPolicy(percent=50)

    def made() -> list[Any]:
        return [
            transfer.debit(job, **BY),
            transfer.refund(job, Kind.FAILED, **BY),
            transfer.missing(job, 3, **BY),
            *(transfer.discarded(job, index, half, reason="", **BY) for index in range(4)),
            transfer.discarded(job, 0, half, reason="", times=2, **BY),
            transfer.restored(job, 0, **BY),
            transfer.restored(job, 0, times=2, **BY),
        ]

    ids = [one.id for one in made()]
    assert ids == [one.id for one in made()]
    assert len(set(ids)) == len(ids)


def test_an_undo_names_the_refund_it_takes_back() -> None:
    job = a_job(images=2, credits=8)
    given_back = transfer.discarded(job, 1, DiscardPolicy(percent=50), reason="", times=3, **BY)
    assert given_back
    undo = transfer.restored(job, 1, times=3, **BY)
    assert (undo.undoes, undo.reason, undo.kind) == (given_back.id, Reason.DEBIT, "undo")
    assert (undo.debit_account, undo.credit_account) == (given_back.credit_account, given_back.debit_account)


@pytest.mark.parametrize(
    ("credits", "images", "produced", "back"), [(7, 4, 3, 2), (8, 4, 3, 2), (1, 8, 7, 1), (8, 4, 0, 8), (5, 3, 1, 4)]
)
def test_pictures_that_are_missing_come_back_pro_rata_rounded_up(
    credits: int, images: int, produced: int, back: int
) -> None:
    made = transfer.missing(a_job(credits=credits, images=images), produced, **BY)
    assert made
    assert made.amount == back


@pytest.mark.parametrize("produced", [2, 3])
def test_a_batch_that_is_whole_gives_nothing_back(produced: int) -> None:
    assert transfer.missing(a_job(images=2), produced, **BY) is None


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 50))
def test_the_shares_of_all_pictures_add_up_to_the_percentage_and_never_to_more_than_half(
    credits: int, images: int, percent: int
) -> None:
    job, policy = a_job(credits=credits, images=images), DiscardPolicy(percent=percent)
    shares = [policy.share(job, index, reason="") for index in range(images)]
    assert sum(shares) == credits * percent // 100 <= credits // 2
    assert max(shares) - min(shares) <= 1


def test_a_discard_for_an_excluded_reason_gives_nothing_back() -> None:
    policy = DiscardPolicy(percent=50, excluded=frozenset({"policy"}))
    job = a_job(credits=10)
    assert transfer.discarded(job, 0, policy, reason="policy", **BY) is None
    assert transfer.discarded(job, 0, policy, reason="blurred", **BY)
    assert transfer.discarded(job, 0, DiscardPolicy(), reason="blurred", **BY) is None
    assert transfer.discarded(job, 1, policy, reason="blurred", **BY) is None, "there is no such picture"


@pytest.mark.parametrize("percent", [-1, 51, 100])
def test_a_discard_policy_beyond_its_bounds_is_none(percent: int) -> None:
    with pytest.raises(ValueError, match="0 to 50 percent"):
        DiscardPolicy(percent=percent)


def test_a_price_counts_for_the_account_the_member_and_the_token() -> None:
    assert transfer.spenders("user:ann") == ["user:ann"]
    assert transfer.spenders("user:ann", token_id="t") == ["user:ann", "token:t"]
    assert transfer.spenders("pool:a", member="ann", token_id="t") == ["pool:a", "pool:a/member:ann", "token:t"]
