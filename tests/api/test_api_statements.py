"""Statements, teams and the whole ledger over REST: who sees what, in JSON and in CSV."""

import csv
import hashlib
import io
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from caller import Caller, problem
from live import Stack, eventually

from functions.adapters import postgres, team_pools
from functions.config import config
from functions.debit import debit
from functions.domain.errors import Rejected
from functions.domain.event import Actor, JobRequested
from functions.domain.job import State
from functions.domain.request import JobRequest
from functions.submit import submit

Calling = Callable[..., Caller]


@pytest.fixture
def olga(calling_as: Calling) -> Caller:
    return calling_as("olga", "ADMIN")


@pytest.fixture
def with_teams(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Teams are on in this process."""
    monkeypatch.setenv("TEAM_POOLS", "on")
    config.cache_clear()
    yield
    monkeypatch.undo()
    config.cache_clear()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# --- one's own ---


def test_a_statement_is_the_same_as_json_and_as_csv_however_it_is_asked_for(
    stack: Stack, caller: Caller, user: str
) -> None:
    stack.wait(caller.post("/v1/jobs", stack.request()).json()["id"], State.AWAITING_REVIEW)
    told = caller.get("/v1/credits/transactions").json()["transactions"]
    by_header = caller.get("/v1/credits/transactions", headers={"Accept": "text/csv"})
    by_name = caller.get("/v1/credits/transactions", params={"format": "csv"})
    assert by_header.text == by_name.text
    assert by_header.headers["content-type"].startswith("text/csv")
    assert f'filename="user-{user}.csv"' in by_header.headers["content-disposition"]
    for line, row in zip(told, rows(by_header.text), strict=True):
        assert (line["id"], line["about"], str(line["change"])) == (row["id"], row["about"], row["change"])


def test_a_long_statement_is_told_whole(stack: Stack, caller: Caller, user: str) -> None:
    for _ in range(6):
        stack.grant(user, 1)
    page = caller.get("/v1/credits/transactions", params={"limit": 3}).json()
    assert len(page["transactions"]) == 3
    assert len(rows(caller.get("/v1/credits/transactions", params={"format": "csv"}).text)) == 7


def test_credits_of_jobs_under_way_are_told_apart(stack: Stack, caller: Caller, user: str) -> None:
    stack.behave(step_ms=300)
    job_id = caller.post("/v1/jobs", stack.request(images=2)).json()["id"]
    held = eventually(lambda: (told := caller.get("/v1/credits").json())["held"] and told)
    assert (held["balance"], held["held"]) == (98, 2)
    assert [(one["job_id"], one["credits"], one["spender"]) for one in held["holds"]] == [(job_id, 2, user)]
    stack.behave(clear=True, step_ms=15)
    stack.wait(job_id, State.AWAITING_REVIEW)
    assert caller.get("/v1/credits").json()["held"] == 0


def test_what_one_job_moved_is_told_to_its_asker_and_to_nobody_else(
    stack: Stack, caller: Caller, stranger: Caller, gone: str
) -> None:
    job_id = caller.post("/v1/jobs", stack.request(model=gone)).json()["id"]
    stack.wait(job_id, State.FAILED)
    of_job = {"job_id": job_id}
    told = caller.get("/v1/credits/transactions", params=of_job).json()["transactions"]
    assert [one["about"] for one in told] == [f"job {job_id}", f"back from job {job_id}, which failed"]
    assert caller.get(f"/v1/jobs/{job_id}").json()["transactions"] == told
    assert len(rows(caller.get("/v1/credits/transactions", params=of_job | {"format": "csv"}).text)) == 2
    problem(stranger.get("/v1/credits/transactions", params=of_job), 404, "unknown_job", "job_id")


# --- anybody's, for admins ---


def test_an_admin_reads_any_account_and_the_sum_of_all(stack: Stack, olga: Caller, user: str) -> None:
    found = olga.get(f"/v1/admin/ledger/accounts/user:{user}").json()
    assert (found["balance"], found["held"]) == (100, 0)
    told = olga.get(f"/v1/admin/ledger/accounts/user:{user}/transactions").json()["transactions"]
    assert [one["about"] for one in told] == ["granted: a test"]
    book = olga.get("/v1/admin/ledger").json()
    assert book["imbalance"] == 0
    assert book["moved"]["grant"] >= 100
    assert book["held"] >= 100
    problem(olga.get("/v1/admin/ledger/accounts/treasury"), 422, "invalid_request", "account")


def test_an_export_is_the_whole_book_closed_by_its_digest(stack: Stack, olga: Caller, user: str) -> None:
    lines = olga.get("/v1/admin/ledger/export").text.splitlines(keepends=True)
    end = json.loads(lines[-1])
    assert end["sha256"] == hashlib.sha256("".join(lines[:-1]).encode()).hexdigest()
    said = [json.loads(line) for line in lines[:-1]]
    assert end["accounts"] == sum(one["line"] == "account" for one in said)
    assert end["transfers"] == sum(one["line"] == "transfer" for one in said)
    assert end["imbalance"] == 0
    assert [one["credit_account"] for one in said if one.get("holder") == f"user:{user}"] == [f"user:{user}"]


def test_jobs_and_transfers_are_compared(stack: Stack, olga: Caller, caller: Caller) -> None:
    stack.wait(caller.post("/v1/jobs", stack.request()).json()["id"], State.AWAITING_REVIEW)
    found = olga.get("/v1/admin/ledger/reconciliation", params={"days": 1}).json()
    assert found["jobs"] >= 1
    assert found["transfers"] >= 2
    assert {one["kind"] for one in found["discrepancies"]} == set(found["counts"])


def test_many_balances_are_corrected_line_by_line_after_a_rehearsal(stack: Stack, olga: Caller, user: str) -> None:
    lines = [{"user_id": f"{user}-a", "credits": 7}, {"user_id": user, "credits": -30, "reason": "a slip"}]
    lines += [{"user_id": f"{user}-a", "credits": 900}, {"user_id": f"{user}-b", "credits": -1}]
    request = {"reason": "the March contest", "lines": lines}
    outcomes = ["approved", "approved", "pending", "short"]
    rehearsed = olga.post("/v1/admin/ledger/adjustments", request | {"dry_run": True}).json()
    assert [one["outcome"] for one in rehearsed["lines"]] == outcomes
    assert stack.balance(user) == 100
    done = olga.post("/v1/admin/ledger/adjustments", request).json()
    assert [one["outcome"] for one in done["lines"]] == outcomes
    eventually(lambda: (stack.balance(f"{user}-a"), stack.balance(user)) == (7, 70))
    again = olga.post("/v1/admin/ledger/adjustments", request).json()
    assert [one["outcome"] for one in again["lines"]] == ["known", "known", "known", "short"]
    told = olga.get(f"/v1/admin/ledger/accounts/user:{user}/transactions").json()["transactions"]
    assert [one["about"] for one in told] == ["taken back: a slip", "granted: a test"]


def test_a_list_with_a_wrong_line_moves_nothing(stack: Stack, olga: Caller, user: str) -> None:
    lines = [{"user_id": user, "credits": 5}, {"user_id": user, "credits": 0}]
    problem(olga.post("/v1/admin/ledger/adjustments", {"reason": "r", "lines": lines}), 422, "list_invalid")
    assert stack.balance(user) == 100


# --- teams ---


@pytest.fixture
def team(olga: Caller) -> str:
    """A team of this test's own, with 50 credits."""
    id = f"team-{uuid.uuid4().hex[:8]}"
    assert olga.post("/v1/admin/team-pools", {"id": id, "name": "Herons"}).status_code == 201
    asked = olga.post("/v1/admin/grants", {"pool_id": id, "credits": 50, "reason": "a start"}).json()
    eventually(lambda: olga.get(f"/v1/admin/grants/{asked['id']}").json()["standing"] == "done")
    return id


def ask(stack: Stack, user: str, pay_from: str, **fields: Any) -> str:
    """A job of this user's, paid for in this process; Rejected or unpaid as the functions would have it."""
    job_id = f"job-{uuid.uuid4().hex[:12]}"
    asked = JobRequest(**stack.request(pay_from=pay_from, **fields))
    actor = Actor(user_id=user, role="CURATOR")
    with postgres.transaction() as tx:
        submitted = submit(tx, JobRequested.of(job_id=job_id, actor=actor, asked=asked))
        assert submitted
        debit(tx, submitted)
    return job_id


@pytest.mark.usefixtures("with_teams")
def test_a_members_job_is_paid_from_the_team_and_the_statement_names_the_member(
    stack: Stack, olga: Caller, caller: Caller, stranger: Caller, user: str, team: str
) -> None:
    olga.session.put(f"{olga.url}/v1/admin/team-pools/{team}/members/{user}", json={}, timeout=10)
    job_id = ask(stack, user, f"pool:{team}", images=3)
    job = stack.job(job_id)
    assert job
    assert (job.state, job.payer) == (State.DEBITED, f"pool:{team}")
    assert stack.balance(user) == 100
    [own] = caller.get("/v1/credits/pools").json()["pools"]
    assert (own["balance"], own["spent"]["day"], own["account"]) == (47, 3, f"pool:{team}")
    [line] = caller.get(f"/v1/credits/pools/{team}/transactions").json()["transactions"]
    assert (line["spender"], line["about"], line["balance"]) == (user, f"job {job_id}, by {user}", 47)
    everything = olga.get(f"/v1/credits/pools/{team}/transactions").json()["transactions"]
    assert [one["change"] for one in everything] == [-3, 50]
    assert caller.get(f"/v1/jobs/{job_id}").json()["transactions"] == [line]
    problem(stranger.get(f"/v1/credits/pools/{team}/transactions"), 404, "unknown_team_pool", "pool_id")
    assert stranger.get("/v1/credits/pools").json() == {"pools": []}
    cancelled = caller.delete(f"/v1/jobs/{job_id}").json()
    assert cancelled["state"] == "cancelled"
    back, _ = caller.get(f"/v1/credits/pools/{team}/transactions").json()["transactions"]
    assert (back["about"], back["balance"]) == (f"back from job {job_id}, which was called off, by {user}", 50)


@pytest.mark.usefixtures("with_teams")
def test_a_member_spends_no_more_than_the_cap(stack: Stack, olga: Caller, user: str, team: str) -> None:
    member = f"/v1/admin/team-pools/{team}/members/{user}"
    put = olga.session.put(f"{olga.url}{member}", json={"day": 5}, timeout=10).json()
    assert put["caps"] == {"day": 5}
    paid = ask(stack, user, f"pool:{team}", images=4)
    with pytest.raises(Rejected, match="may spend 5 credits a day: 4 are spent, 2 are needed"):
        ask(stack, user, f"pool:{team}", images=2)
    assert stack.job(paid).state is State.DEBITED  # type: ignore[union-attr]
    [told] = olga.get(f"/v1/admin/team-pools/{team}/members").json()["members"]
    assert (told["user_id"], told["spent"]["day"], told["caps"]) == (user, 4, {"day": 5})


@pytest.mark.usefixtures("with_teams")
def test_only_members_of_an_open_team_may_spend_its_credits(stack: Stack, olga: Caller, user: str, team: str) -> None:
    def refused(pay_from: str) -> str:
        with pytest.raises(Rejected) as no:
            ask(stack, user, pay_from)
        return no.value.code

    assert refused(f"pool:{team}") == "unknown_team_pool"
    assert refused("pool:nowhere") == "unknown_team_pool"
    assert refused(f"user:{user}") == "unknown_team_pool"
    member = f"/v1/admin/team-pools/{team}/members/{user}"
    olga.session.put(f"{olga.url}{member}", json={}, timeout=10)
    assert olga.delete(member).ok
    problem(olga.delete(member), 404, "unknown_member", "user_id")
    assert refused(f"pool:{team}") == "unknown_team_pool"
    olga.session.put(f"{olga.url}{member}", json={}, timeout=10)
    assert olga.delete(f"/v1/admin/team-pools/{team}").json()["closed_at"]
    assert refused(f"pool:{team}") == "unknown_team_pool"


def test_where_teams_are_off_nothing_is_paid_from_them(stack: Stack, olga: Caller, caller: Caller, user: str) -> None:
    team_id = f"team-{uuid.uuid4().hex[:8]}"
    with postgres.transaction() as tx:
        team_pools.create(tx, team_id, name="t", by="olga")
        team_pools.put(tx, team_id, user, by="olga", caps={})
    answer = caller.post("/v1/jobs", stack.request(pay_from=f"pool:{team_id}"))
    problem(answer, 422, "team_pools_off", "pay_from")


@pytest.mark.usefixtures("with_teams")
def test_an_admin_who_is_in_a_team_does_not_fill_it_alone(
    stack: Stack, olga: Caller, calling_as: Calling, team: str
) -> None:
    olga.session.put(f"{olga.url}/v1/admin/team-pools/{team}/members/pete", json={}, timeout=10)
    pete = calling_as("pete", "ADMIN")
    asked = pete.post("/v1/admin/grants", {"pool_id": team, "credits": 5, "reason": "ours"}).json()
    assert asked["standing"] == "pending"
    big = olga.post("/v1/admin/grants", {"pool_id": team, "credits": 900, "reason": "much"}).json()
    problem(pete.post(f"/v1/admin/grants/{big['id']}/approval"), 403, "second_admin_needed")


def test_a_team_has_an_id_of_its_own(olga: Caller, team: str) -> None:
    problem(olga.post("/v1/admin/team-pools", {"id": team, "name": "t"}), 409, "team_pool_exists", "id")
    problem(olga.post("/v1/admin/team-pools", {"id": "No Id", "name": "t"}), 422, "team_pool_id_invalid", "id")
    assert team in [one["id"] for one in olga.get("/v1/admin/team-pools", params={"limit": 1000}).json()["pools"]]
    problem(olga.get("/v1/admin/team-pools/nowhere/members"), 404, "unknown_team_pool", "pool_id")
