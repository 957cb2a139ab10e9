"""Who may give credits alone, who needs a second, and for how long."""

from datetime import timedelta
from typing import Any

import pytest
from making import NOW

from functions.domain.errors import Rejected
from functions.domain.grant import Grant, Kind, Policy, Standing
from functions.domain.transfer import TREASURY, Reason

POLICY = Policy(limit=500, approval=timedelta(hours=24))


def a_grant(**fields: Any) -> Grant:
    plain: dict[str, Any] = {
        "id": "g",
        "account": "user:ann",
        "amount": 900,
        "kind": Kind.GRANT,
        "reason": "a prize",
        "requested_by": "olga",
        "instruction": "token:1",
        "requested_at": NOW,
        "needs_approval": True,
    }
    return Grant(**plain | fields)


def test_what_needs_nobody_else_is_approved_as_it_is_asked_for() -> None:
    assert a_grant(needs_approval=False).standing(POLICY, NOW) is Standing.APPROVED
    assert a_grant().standing(POLICY, NOW) is Standing.PENDING


def test_a_second_admin_approves_and_is_named_in_the_transfer() -> None:
    approved = a_grant().approved("pete", approval="token:2", policy=POLICY, now=NOW + timedelta(hours=23))
    assert approved.standing(POLICY, NOW + timedelta(days=9)) is Standing.APPROVED
    moved = approved.transfer()
    assert (moved.id, moved.debit_account, moved.credit_account) == ("user:ann:grant:g", TREASURY, "user:ann")
    assert (moved.authorised_by, moved.instruction) == ("user:olga and user:pete", "g")


@pytest.mark.parametrize("by", ["olga", "ann"])
def test_neither_who_asked_nor_who_gets_it_may_approve(by: str) -> None:
    with pytest.raises(Rejected) as no:
        a_grant().approved(by, approval="token:2", policy=POLICY, now=NOW)
    assert no.value.code == "second_admin_needed"


def test_after_a_day_nobody_can_approve_any_more() -> None:
    late = NOW + timedelta(hours=24, seconds=1)
    assert a_grant().standing(POLICY, late) is Standing.EXPIRED
    for decide in (
        lambda: a_grant().approved("pete", approval="t", policy=POLICY, now=late),
        lambda: a_grant().refused("pete", why="no", policy=POLICY, now=late),
    ):
        with pytest.raises(Rejected) as no:
            decide()
        assert no.value.code == "grant_expired"


def test_a_grant_is_decided_once() -> None:
    approved = a_grant().approved("pete", approval="t", policy=POLICY, now=NOW)
    refused = a_grant().refused("olga", why="a slip", policy=POLICY, now=NOW)
    assert refused.standing(POLICY, NOW) is Standing.REFUSED
    for decided in (approved, refused, a_grant(needs_approval=False), a_grant(moved_at=NOW), a_grant(failure="short")):
        with pytest.raises(Rejected) as no:
            decided.approved("quinn", approval="t", policy=POLICY, now=NOW)
        assert no.value.code == "already_decided"


@pytest.mark.parametrize(
    ("kind", "amount", "id", "reason"),
    [
        (Kind.GRANT, 5, "user:ann:grant:g", Reason.GRANT),
        (Kind.ADJUSTMENT, 5, "user:ann:adjustment:g", Reason.ADJUSTMENT),
        (Kind.ADJUSTMENT, -5, "user:ann:adjustment:g", Reason.ADJUSTMENT),
        (Kind.REVOCATION, -5, "user:ann:adjustment:g", Reason.ADJUSTMENT),
    ],
)
def test_a_grant_is_one_transfer_either_way(kind: Kind, amount: int, id: str, reason: Reason) -> None:
    moved = a_grant(kind=kind, amount=amount).transfer()
    assert (moved.id, moved.reason, moved.amount) == (id, reason, 5)
    holder, other = moved.credit_account, moved.debit_account
    assert (holder, other) == (("user:ann", TREASURY) if amount > 0 else (TREASURY, "user:ann"))
