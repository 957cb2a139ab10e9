"""Spending caps of users, members of teams and API tokens, by day, week and month: kept under the account's lock."""

import uuid
from datetime import UTC, datetime
from functools import partial

import pytest
from book import PROOFS, all_at_once, balance, debit, granted, kept, paid, post, refund
from live import TESTER, Stack
from making import a_job
from sqlalchemy import create_engine, text

from functions.adapters import grants, jobs, ledger, postgres
from functions.debit import debit as pay
from functions.domain import transfer
from functions.domain.errors import Rejected, SpendingCapReached
from functions.domain.event import Actor, CreditsTransferred, JobFailed, JobRequested, JobSubmitted
from functions.domain.grant import Kind as GrantKind
from functions.domain.job import State
from functions.domain.request import JobRequest
from functions.submit import submit

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def ann() -> str:
    """A user with a hundred credits."""
    user = f"ann-{uuid.uuid4().hex[:8]}"
    granted(user, 100)
    return user


CAP = text("""
INSERT INTO generator_spending_cap (spender, period, credits, set_by) VALUES (:spender, :period, :credits, 'a test')
""")


def capped(spender: str, **caps: int | None) -> None:
    with postgres.transaction() as tx:
        for period, credits in caps.items():
            tx.execute(CAP, {"spender": spender, "period": period, "credits": credits})


def spent(spender: str) -> tuple[int, int, int]:
    """What is counted for this day, week and month."""
    counted = text("SELECT day, week, month FROM generator_spending WHERE spender = :spender")
    with postgres.transaction() as tx:
        row = tx.execute(counted, {"spender": spender}).one_or_none()
    return (row.day, row.week, row.month) if row else (0, 0, 0)


def spent_on(stack: Stack, spender: str, day: str) -> None:
    """Let what was spent have been spent on that day."""
    owner = create_engine(str(stack.house.admin_database_url))
    with owner.begin() as tx:
        moved = text("UPDATE generator_spending SET on_day = CAST(:day AS date) WHERE spender = :spender")
        assert tx.execute(moved, {"day": day, "spender": spender}).rowcount == 1
    owner.dispose()


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_a_price_that_would_break_a_cap_is_refused_with_what_is_spent(ann: str, period: str) -> None:
    capped(f"user:{ann}", **{period: 10})
    paid(ann, 8)
    said = f"user:{ann} may spend 10 credits a {period}: 8 are spent, 3 are needed"
    with pytest.raises(SpendingCapReached, match=said):
        post(debit(kept(ann, 3)))
    paid(ann, 2)
    assert balance(ann) == 90


def test_a_role_caps_its_users_where_no_row_says_otherwise(ann: str) -> None:
    with pytest.raises(SpendingCapReached):
        post(debit(kept(ann, 11)), day=10)
    capped(f"user:{ann}", day=20)
    assert post(debit(kept(ann, 11)), day=10)
    with pytest.raises(SpendingCapReached):
        post(debit(kept(ann, 10)), day=1000)


def test_a_row_may_free_one_user_of_the_roles_cap(ann: str) -> None:
    capped(f"user:{ann}", day=None)
    assert post(debit(kept(ann, 11)), day=10)


def test_debits_at_the_same_time_cannot_break_a_cap(ann: str) -> None:
    said = all_at_once(*(partial(post, debit(kept(ann, 3)), day=10) for _ in range(6)))
    assert sum(isinstance(one, CreditsTransferred) for one in said) == 3
    assert spent(f"user:{ann}") == (9, 9, 9)


def test_what_comes_back_may_be_spent_again(ann: str) -> None:
    job = paid(ann, 10)
    post(refund(job))
    assert spent(f"user:{ann}") == (0, 0, 0)
    assert post(debit(kept(ann, 10)), day=10)


def test_what_is_taken_back_counts_again(ann: str) -> None:
    job = paid(ann, 10, images=1)
    back = transfer.discarded(job, 0, transfer.DiscardPolicy(percent=50), reason="", **PROOFS)
    assert back
    post(back)
    assert spent(f"user:{ann}") == (5, 5, 5)
    post(transfer.restored(job, 0, **PROOFS))
    assert spent(f"user:{ann}") == (10, 10, 10)


def test_each_period_begins_anew(stack: Stack, ann: str) -> None:
    paid(ann, 10)
    spent_on(stack, f"user:{ann}", "2020-01-01")
    paid(ann, 2)
    assert spent(f"user:{ann}") == (2, 2, 2)


def test_a_day_that_is_over_still_counts_in_its_week_and_month(stack: Stack, ann: str) -> None:
    paid(ann, 10)
    spent_on(stack, f"user:{ann}", "yesterday")
    paid(ann, 2)
    today = datetime.now(UTC).date()
    assert spent(f"user:{ann}") == (2, 2 if today.weekday() == 0 else 12, 2 if today.day == 1 else 12)


def test_a_refund_of_an_earlier_period_leaves_todays_sum_alone(stack: Stack, ann: str) -> None:
    job = paid(ann, 10)
    spent_on(stack, f"user:{ann}", "2999-01-01")
    post(refund(job))
    assert spent(f"user:{ann}") == (10, 10, 10)


def test_a_member_of_a_team_and_a_token_are_capped_like_a_user(ann: str) -> None:
    team, token = f"pool:{ann}s", uuid.uuid4().hex
    with postgres.transaction() as tx:
        asked = grants.ask(tx, TESTER, account_=team, amount=50, kind=GrantKind.GRANT, reason="a test")
        assert asked
        ledger.post(tx, asked.transfer())
    capped(f"{team}/member:{ann}", week=20)
    capped(f"token:{token}", day=15)
    post(debit(kept(ann, 10, payer=team, token_id=token)))
    with pytest.raises(SpendingCapReached, match=f"token:{token} may spend 15"):
        post(debit(kept(ann, 10, payer=team, token_id=token)))
    post(debit(kept(ann, 10, payer=team)))
    with pytest.raises(SpendingCapReached, match=f"{team}/member:{ann} may spend 20 credits a week: 20 are spent"):
        post(debit(kept(ann, 1, payer=team)))
    post(debit(kept("bob", 1, payer=team)))
    assert spent(team) == (21, 21, 21)
    assert spent(f"user:{ann}") == (0, 0, 0)


def test_a_request_that_would_break_a_cap_is_refused_before_it_becomes_a_job(stack: Stack, ann: str) -> None:
    capped(f"user:{ann}", day=1)
    asked = JobRequest(prompt="a heron", model=stack.model, images=2)
    event = JobRequested.of(job_id=f"job-{ann}", actor=Actor(user_id=ann, role="CURATOR"), asked=asked)
    with pytest.raises(Rejected, match=f"user:{ann} may spend 1 credits a day") as no, postgres.transaction() as tx:
        submit(tx, event)
    assert no.value.code == "spending_cap_reached"


def test_a_job_whose_cap_is_reached_meanwhile_fails_and_costs_nothing(ann: str) -> None:
    job = a_job(user_id=ann, credits=5)
    capped(f"user:{ann}", day=4)
    with postgres.transaction() as tx:
        jobs.add(tx, job)
        [told] = pay(tx, JobSubmitted(job_id=job.id, user_id=ann, credits=5))
        failed = jobs.get(tx, job.id)
    assert isinstance(told, JobFailed)
    assert failed
    assert (failed.state, failed.cause) == (State.FAILED, "spending_cap_reached")
    assert balance(ann) == 100
