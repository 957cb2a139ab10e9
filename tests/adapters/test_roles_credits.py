"""Credits, role by role: who writes a grant down cannot move credits, and who moves them can write none down."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from live import Stack
from making import a_job
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from test_roles import PROMPTS, Desk, desk

from functions.adapters import (
    adjustments,
    earnings,
    grants,
    inbox,
    jobs,
    ledger,
    measures,
    outbox,
    reconciliation,
    statements,
    team_pools,
)
from functions.adapters.grants import Admin
from functions.config import config
from functions.debit import debit
from functions.domain.adjustment import Outcome, checked
from functions.domain.event import Actor, CreditsEarned, GrantApproved, JobSubmitted
from functions.domain.grant import Kind
from functions.domain.request import Achievement
from functions.domain.transfer import account
from functions.earn import earn

assert desk  # a fixture
OLGA, PETE = Admin(user_id="olga", instruction="token:1"), Admin(user_id="pete", instruction="token:2")


@pytest.fixture
def ann() -> str:
    return f"ann-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def refreshing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ten credits come back a day, in this process."""
    monkeypatch.setenv("REFRESH_CREDITS", "10")
    config.cache_clear()
    yield
    monkeypatch.undo()
    config.cache_clear()


def asked(desk: Desk, role: str, user: str, amount: int, kind: Kind = Kind.GRANT) -> grants.Grant:
    with desk.as_(role) as tx:
        made = grants.ask(tx, OLGA, account_=account(user), amount=amount, kind=kind, reason="r")
    assert made
    return made


@pytest.mark.parametrize("role", ["api", "operator"])
def test_one_role_writes_a_grant_down_and_another_carries_it_out(desk: Desk, ann: str, role: str) -> None:
    made = asked(desk, role, ann, 900)
    with desk.as_(role) as tx:
        grants.approve(tx, PETE, made.id)
        assert grants.listing(tx, account_=account(ann), limit=1)
    with desk.as_("earn") as tx:
        told = GrantApproved(job_id="", grant_id=made.id)
        assert inbox.first(tx, function="earn", source="/functions/api", id=told.id)
        moved = earn(tx, told)
        assert moved
        outbox.put(tx, "/functions/earn", [moved])
    too_much = asked(desk, role, ann, -901, Kind.REVOCATION)
    with desk.as_("earn") as tx:
        assert earn(tx, GrantApproved(job_id="", grant_id=too_much.id)) is None
    with desk.as_(role) as tx:
        assert str(grants.found(tx, too_much.id).failure).endswith("1 short")
    assert ledger.balance(desk.tx, account(ann)) == 900


def post(grant: grants.Grant) -> dict[str, Any]:
    moved = grant.transfer()
    return {"id": moved.id, "account": moved.credit_account, "amount": moved.amount, "grant": grant.id}


POST = """
SELECT generator_ledger_post(:id, 'treasury', :account, :amount, 'grant', 'admin', NULL, NULL, 'me', :grant)
"""


def test_only_earn_moves_what_admins_granted(desk: Desk, ann: str) -> None:
    assert desk.who_may(POST, **post(asked(desk, "api", ann, 5))) == {"earn"}


def test_not_even_earn_moves_what_nobody_has_approved(desk: Desk, ann: str) -> None:
    waiting = asked(desk, "api", ann, 900)
    with pytest.raises(DBAPIError, match="not approved"), desk.tx.begin_nested(), desk.as_("earn") as tx:
        earn(tx, GrantApproved(job_id="", grant_id=waiting.id))


WRITE = """
INSERT INTO generator_credit_grant (id, account, amount, kind, reason, requested_by, instruction, needs_approval)
SELECT 'g', 'user:eve', 5, 'grant', 'r', 'olga', 'i', false
"""


def test_only_who_admins_speak_to_writes_grants_down_and_nobody_edits_one(desk: Desk) -> None:
    assert desk.who_may(WRITE) == {"api", "operator"}
    for column in ("amount", "account", "needs_approval", "requested_by", "requested_at", "approved_at"):
        assert desk.who_may(f"UPDATE generator_credit_grant SET {column} = {column} WHERE false") == set()
    assert desk.who_may("DELETE FROM generator_credit_grant WHERE false") == set()


def test_only_earn_counts_what_achievements_paid_and_what_could_not_be_done(desk: Desk) -> None:
    assert desk.who_may("INSERT INTO generator_credit_earned SELECT 'user:x', current_date, 1") == {"earn"}
    failed = "INSERT INTO generator_credit_grant_failure (grant_id, detail) SELECT 'g', 'd' WHERE false"
    assert desk.who_may(failed) == {"earn"}


def test_earn_pays_achievements(desk: Desk, ann: str) -> None:
    achieved = Achievement(achievement="a", credits=5)
    with desk.as_("earn") as tx:
        in_a_minute = tx.execute(text("SELECT now() + interval '1 minute'")).scalar_one()
        assert inbox.use_signature(tx, jti=ann, event_id="e", expires_at=in_a_minute)
        news = CreditsEarned.of(job_id=ann, actor=Actor(user_id=ann, role="CURATOR"), asked=achieved)
        assert earn(tx, news)


@pytest.mark.usefixtures("refreshing")
@pytest.mark.parametrize("role", ["api", "submit"])
def test_a_balance_may_be_refreshed_by_who_reads_it(desk: Desk, ann: str, role: str) -> None:
    with desk.as_(role) as tx:
        assert earnings.touch(tx, ann) == 10


@pytest.mark.usefixtures("refreshing")
def test_a_price_may_be_paid_from_the_days_credits(desk: Desk, ann: str) -> None:
    job = a_job(user_id=ann)
    jobs.add(desk.tx, job)
    with desk.as_("debit") as tx:
        said = debit(tx, JobSubmitted(job_id=job.id, user_id=ann, credits=job.credits))
    assert [one.name for one in said] == ["job.debited", "credits.transferred"]
    assert ledger.balance(desk.tx, account(ann)) == 7


@pytest.mark.parametrize("role", ["api", "operator"])
def test_who_answers_admins_reads_statements_and_keeps_teams(desk: Desk, ann: str, role: str) -> None:
    with desk.as_(role) as tx:
        statements.page(tx, account(ann))
        statements.holds(tx, account(ann))
        statements.of_job(tx, "j")
        team_pools.create(tx, "herons", name="Herons", by="olga")
        team_pools.put(tx, "herons", ann, by="olga", caps={"day": 5})
        assert [one.user_id for one in team_pools.members(tx, "herons")] == [ann]
        team_pools.remove(tx, "herons", ann)
        team_pools.close(tx, "herons")
        assert "herons" in [one.id for one in team_pools.listing(tx, limit=1000)]
        listed = checked([{"user_id": ann, "credits": "5"}], reason="r", digest="d")
        assert [one.outcome for one in adjustments.rehearsal(tx, OLGA, listed)] == [Outcome.APPROVED]
        tx.execute(reconciliation.OF_JOBS, {"after": "", "last": "", "since": None})
        tx.execute(reconciliation.OF_TRANSFERS, {"after": 0, "last": 0, "since": None})
        tx.execute(reconciliation.OF_GRANTS, {"since": None})
        tx.execute(reconciliation.JOBS, {"after": "", "limit": 1})
        tx.execute(reconciliation.TRANSFERS, {"after": 0, "limit": 1})


def test_submit_asks_whether_a_team_pays(desk: Desk, ann: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_POOLS", "on")
    config.cache_clear()
    try:
        with desk.as_("operator") as tx:
            team_pools.create(tx, "herons", name="Herons", by="olga")
            team_pools.put(tx, "herons", ann, by="olga", caps={})
        with desk.as_("submit") as tx:
            assert team_pools.payer(tx, ann, "pool:herons") == "pool:herons"
    finally:
        monkeypatch.undo()
        config.cache_clear()


def test_an_operator_reads_accounts_and_no_prompts(desk: Desk) -> None:
    assert not desk.may("operator", PROMPTS)
    assert not desk.may("operator", "SELECT parameters FROM generator_job LIMIT 1")


def test_metrics_reads_what_alerts_watch_and_no_account(desk: Desk) -> None:
    with desk.as_("metrics") as tx:
        measures.discrepancies(tx)
        measures.most_granted(tx)
    assert not desk.may("metrics", "SELECT * FROM generator_credit_grant LIMIT 1")
    assert not desk.may("metrics", "SELECT id FROM generator_credit_account LIMIT 1")
