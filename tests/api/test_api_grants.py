"""Grants over REST: what one admin may do, what takes two, and who may do nothing."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from caller import Caller, problem
from live import Stack, eventually
from sqlalchemy import create_engine, text

from functions.adapters import grants, postgres
from functions.config import config
from functions.domain.errors import Rejected

Calling = Callable[..., Caller]
GRANTS = "/v1/admin/grants"


@pytest.fixture
def olga(calling_as: Calling) -> Caller:
    return calling_as("olga", "ADMIN")


@pytest.fixture
def pete(calling_as: Calling) -> Caller:
    return calling_as("pete", "ADMIN")


@pytest.fixture
def ann() -> str:
    """A user nobody has heard of."""
    return f"ann-{uuid.uuid4().hex[:8]}"


def wish(user: str, credits: int, **fields: Any) -> dict[str, Any]:
    return {"user_id": user, "credits": credits, "reason": "the March contest"} | fields


def settled(admin: Caller, grant: dict[str, Any]) -> dict[str, Any]:
    """The grant, once it is carried out or it is known that it cannot be."""
    found: dict[str, Any] = eventually(
        lambda: (one := admin.get(f"{GRANTS}/{grant['id']}").json())["standing"] != "approved" and one
    )
    return found


def test_what_one_admin_may_give_alone_moves_at_once(stack: Stack, olga: Caller, ann: str) -> None:
    asked = olga.post(GRANTS, wish(ann, 500))
    assert asked.status_code == 202
    assert (asked.json()["needs_approval"], asked.headers["Location"]) == (False, f"{GRANTS}/{asked.json()['id']}")
    done = settled(olga, asked.json())
    assert (done["standing"], done["transaction_id"]) == ("done", f"user:{ann}:grant:{done['id']}")
    assert stack.balance(ann) == 500


def test_above_the_limit_a_second_admin_approves_and_only_then_it_moves(
    stack: Stack, olga: Caller, pete: Caller, ann: str
) -> None:
    asked = olga.post(GRANTS, wish(ann, 501)).json()
    assert asked["standing"] == "pending"
    assert asked["id"] in [one["id"] for one in pete.get(GRANTS, params={"open": "true"}).json()["grants"]]
    problem(olga.post(f"{GRANTS}/{asked['id']}/approval"), 403, "second_admin_needed")
    assert stack.balance(ann) == 0
    assert pete.post(f"{GRANTS}/{asked['id']}/approval").json()["approved_by"] == "pete"
    assert settled(olga, asked)["standing"] == "done"
    assert stack.balance(ann) == 501
    [line] = olga.get(f"/v1/admin/ledger/accounts/user:{ann}/transactions").json()["transactions"]
    assert (line["authorised_by"], line["about"]) == ("user:olga and user:pete", "granted: the March contest")


def test_nobody_gives_to_themselves_however_little(stack: Stack, calling_as: Calling, pete: Caller, ann: str) -> None:
    own = calling_as(ann, "ADMIN")
    asked = own.post(GRANTS, wish(ann, 1)).json()
    assert asked["standing"] == "pending"
    problem(own.post(f"{GRANTS}/{asked['id']}/approval"), 403, "second_admin_needed")
    for_ann = pete.post(GRANTS, wish(ann, 900)).json()
    problem(own.post(f"{GRANTS}/{for_ann['id']}/approval"), 403, "second_admin_needed")
    assert stack.balance(ann) == 0


def test_two_admins_who_approve_at_once_move_the_credits_once(
    stack: Stack, calling_as: Calling, olga: Caller, ann: str
) -> None:
    asked = olga.post(GRANTS, wish(ann, 700)).json()
    seconds = [calling_as(f"second-{n}", "ADMIN") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda one: one.post(f"{GRANTS}/{asked['id']}/approval"), seconds))
    assert sorted(one.status_code for one in said) == [200, 409, 409, 409]
    assert settled(olga, asked)["standing"] == "done"
    assert stack.balance(ann) == 700


def test_what_is_refused_or_taken_back_never_moves(stack: Stack, olga: Caller, pete: Caller, ann: str) -> None:
    for who in (olga, pete):
        asked = olga.post(GRANTS, wish(ann, 900)).json()
        refused = who.post(f"{GRANTS}/{asked['id']}/refusal", {"reason": "too much"}).json()
        assert (refused["standing"], refused["refusal"]) == ("refused", "too much")
        problem(pete.post(f"{GRANTS}/{asked['id']}/approval"), 409, "already_decided")
    assert stack.balance(ann) == 0


def test_a_grant_that_nobody_approved_within_a_day_expires(
    stack: Stack, olga: Caller, pete: Caller, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = olga.post(GRANTS, wish(ann, 900)).json()
    superuser = create_engine(str(stack.house.admin_database_url))
    with superuser.begin() as tx:
        tx.execute(text("ALTER TABLE generator_credit_grant DISABLE TRIGGER guard"))
        yesterday = text("UPDATE generator_credit_grant SET requested_at = now() - interval '25 hours' WHERE id = :id")
        tx.execute(yesterday, {"id": asked["id"]})
        tx.execute(text("ALTER TABLE generator_credit_grant ENABLE TRIGGER guard"))
    superuser.dispose()
    problem(pete.post(f"{GRANTS}/{asked['id']}/approval"), 409, "grant_expired")
    monkeypatch.setenv("GRANT_APPROVAL_H", "100")  # no setting lengthens the ledger's own day
    config.cache_clear()
    with pytest.raises(Rejected, match="waited for too long"), postgres.transaction() as tx:
        grants.approve(tx, grants.Admin(user_id="pete", instruction="token:2"), asked["id"])
    monkeypatch.undo()
    config.cache_clear()
    assert pete.get(f"{GRANTS}/{asked['id']}").json()["standing"] == "expired"


def test_credits_are_taken_back_with_a_reason_and_never_below_zero(stack: Stack, olga: Caller, ann: str) -> None:
    stack.grant(ann, 30)
    problem(olga.post(GRANTS, wish(ann, 31, kind="revocation")), 402, "insufficient_credits")
    asked = olga.post(GRANTS, wish(ann, 20, kind="revocation", reason="sold them")).json()
    assert (settled(olga, asked)["standing"], asked["amount"]) == ("done", -20)
    assert stack.balance(ann) == 10
    [line, _] = olga.get(f"/v1/admin/ledger/accounts/user:{ann}/transactions").json()["transactions"]
    assert (line["reason"], line["change"], line["about"]) == ("adjustment", -20, "taken back: sold them")


def test_credits_that_are_gone_by_then_are_not_taken_and_that_is_told(stack: Stack, olga: Caller, ann: str) -> None:
    stack.grant(ann, 30)
    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(lambda _: olga.post(GRANTS, wish(ann, 20, kind="revocation")).json(), range(4)))
    ends = [settled(olga, one) for one in asked if "standing" in one]
    assert [one["standing"] for one in ends].count("done") == 1
    assert all("20 are needed: 10 short" in one["failure"] for one in ends if one["standing"] == "failed")
    assert stack.balance(ann) == 10


def test_the_same_wish_again_under_its_key_is_the_same_grant(stack: Stack, olga: Caller, ann: str) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: olga.post(GRANTS, wish(ann, 40), headers=key).json(), range(4)))
    assert len({one["id"] for one in said}) == 1
    settled(olga, said[0])
    assert stack.balance(ann) == 40
    problem(olga.post(GRANTS, wish(ann, 41), headers=key), 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"credits": 0}, "credits"),
        ({"reason": ""}, "reason"),
        ({"user_id": None}, "user_id"),
        ({"pool_id": "x"}, "user_id"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(olga: Caller, ann: str, changes: dict[str, Any], field: str) -> None:
    problem(olga.post(GRANTS, wish(ann, 5) | changes), 422, "invalid_request", field)


def test_whoever_is_no_admin_sees_and_does_nothing(caller: Caller, user: str, olga: Caller) -> None:
    asked = olga.post(GRANTS, wish(user, 900)).json()
    for answer in (
        caller.post(GRANTS, wish(user, 5)),
        caller.get(GRANTS),
        caller.get(f"{GRANTS}/{asked['id']}"),
        caller.post(f"{GRANTS}/{asked['id']}/approval"),
        caller.post(f"{GRANTS}/{asked['id']}/refusal", {"reason": "r"}),
        caller.get("/v1/admin/ledger"),
        caller.get("/v1/admin/ledger/accounts/user:olga"),
        caller.get("/v1/admin/ledger/accounts/user:olga/transactions"),
        caller.get("/v1/admin/ledger/reconciliation"),
        caller.get("/v1/admin/ledger/export"),
        caller.post("/v1/admin/ledger/adjustments", {"reason": "r", "lines": [{"user_id": user, "credits": 5}]}),
        caller.get("/v1/admin/team-pools"),
        caller.post("/v1/admin/team-pools", {"id": "t", "name": "t"}),
    ):
        problem(answer, 403, "role_not_allowed")


def test_an_unknown_grant_is_not_there(olga: Caller) -> None:
    problem(olga.get(f"{GRANTS}/nowhere"), 404, "unknown_grant", "grant_id")
    problem(olga.post(f"{GRANTS}/nowhere/approval"), 404, "unknown_grant", "grant_id")


def test_grants_are_listed_newest_first_a_page_at_a_time(olga: Caller, ann: str) -> None:
    made = [olga.post(GRANTS, wish(ann, n)).json()["id"] for n in (1, 2, 3)]
    of_ann = {"account": f"user:{ann}", "limit": 2}
    first = olga.get(GRANTS, params=of_ann).json()
    rest = olga.get(GRANTS, params=of_ann | {"cursor": first["next_cursor"]}).json()
    assert [one["id"] for one in first["grants"] + rest["grants"]] == made[::-1]
    assert rest["next_cursor"] is None
