"""Whatever happens in whatever order, at the same time, twice or cut off in the middle: the book stays right."""

import random
import uuid
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from threading import Thread
from typing import Any

import pytest
from book import PROOFS, all_at_once, balance, debit, kept, post, refund, statement, walk
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from live import TESTER
from making import a_job
from sqlalchemy import text

from functions.adapters import grants, jobs, ledger, postgres
from functions.domain import transfer
from functions.domain.errors import InsufficientCredits, Unavailable
from functions.domain.event import CreditsTransferred
from functions.domain.job import Job
from functions.domain.transfer import DiscardPolicy, Transfer

pytestmark = pytest.mark.usefixtures("stack")
HALF = DiscardPolicy(percent=50)
KILL = text("SELECT pg_terminate_backend(pg_backend_pid())")

ACTS = st.one_of(
    st.tuples(st.just("grant"), st.integers(1, 20), st.integers(0, 1)),
    st.tuples(
        st.sampled_from(["pay", "pay", "refund", "missing", "discard", "undo"]), st.integers(0, 5), st.integers(0, 2)
    ),
)
FATES = st.sampled_from(["once", "once", "twice", "cut off", "cut off and told again"])


def cut_off(made: Transfer) -> None:
    """Post, and lose the connection before the commit."""
    try:
        with postgres.transaction() as tx:
            ledger.post(tx, made)
            tx.execute(KILL)
    except (Unavailable, InsufficientCredits):
        return


class Book(RuleBasedStateMachine):
    """Two users, their jobs, and everything that can be done to their accounts."""

    @initialize()
    def begin(self) -> None:
        self.users = [f"{name}-{uuid.uuid4().hex[:8]}" for name in ("ann", "bob")]
        self.jobs: list[Job] = []
        self.told: Counter[str] = Counter()  # ids of the transfers that were told as made

    @rule(who=st.integers(0, 1), credits=st.integers(1, 12), images=st.integers(1, 3))
    def ask(self, who: int, credits: int, images: int) -> None:
        self.jobs.append(kept(self.users[who], credits, images=images))

    @rule(doings=st.lists(st.tuples(ACTS, FATES), min_size=1, max_size=6))
    def do(self, doings: list[tuple[Any, str]]) -> None:
        said = all_at_once(*(one for act, fate in doings for one in self._fated(self._transfer(*act), fate)))
        self.told.update(one.transfer_id for one in said if isinstance(one, CreditsTransferred))
        unplanned = [one for one in said if isinstance(one, Exception) and not isinstance(one, InsufficientCredits)]
        assert all("no such debit" in str(one) or "generator_credit_refund_check" in str(one) for one in unplanned)

    def _transfer(self, act: str, which: int, index: int) -> Transfer | None:
        if act == "grant":
            user, key = self.users[index], uuid.uuid4().hex
            with postgres.transaction() as tx:
                tx.execute(
                    grants.ADD,
                    {"id": key, "account": transfer.account(user), "amount": which, "kind": "grant", "reason": "a test"}
                    | {"requested_by": TESTER.user_id, "instruction": "a test", "needs_approval": False},
                )
            return transfer.grant(user, which, key=key, authorised_by="a test")
        if not self.jobs:
            return None
        job = self.jobs[which % len(self.jobs)]
        made: dict[str, Callable[[], Transfer | None]] = {
            "pay": lambda: debit(job),
            "refund": lambda: refund(job),
            "missing": lambda: transfer.missing(job, max(0, job.images - 1 - index), **PROOFS),
            "discard": lambda: transfer.discarded(job, index, HALF, reason="", **PROOFS),
            "undo": lambda: transfer.restored(job, index, **PROOFS),
        }
        return made[act]()

    def _fated(self, made: Transfer | None, fate: str) -> list[Callable[[], object]]:
        if made is None:
            return []
        whole = partial(post, made)
        return {
            "once": [whole],
            "twice": [whole, whole],
            "cut off": [partial(cut_off, made)],
            "cut off and told again": [partial(cut_off, made), whole],
        }[fate]

    @invariant()
    def what_was_told_is_what_happened_and_each_account_is_the_sum_of_its_lines(self) -> None:
        lines = {user: statement(user, limit=500) for user in self.users}
        happened = Counter(line.id for those in lines.values() for line in those)
        assert happened == self.told
        for user, those in lines.items():
            assert balance(user) == sum(line.change for line in those) >= 0
            assert all(line.balance >= 0 for line in those)

    @invariant()
    def a_job_is_paid_once_and_no_more_comes_back_than_was_paid(self) -> None:
        for job in self.jobs:
            with postgres.transaction() as tx:
                lines = ledger.of_job(tx, transfer.payer(job), job.id)
            prices = [-line.change for line in lines if line.kind == "price"]
            assert prices in ([], [job.credits])
            assert sum(line.id == f"{job.id}:refund" for line in lines) <= 1
            assert 0 <= sum(line.change for line in lines if line.kind != "price") <= sum(prices)

    def teardown(self) -> None:
        walked, wrong = walk()
        assert (wrong, walked.imbalance) == ([], 0)


def test_the_book_stays_right() -> None:
    run_state_machine_as_test(Book, settings=settings(max_examples=8, stateful_step_count=8, deadline=None))


JOBS = text("""
INSERT INTO generator_job
SELECT made.* FROM generator_job AS pattern CROSS JOIN unnest(CAST(:users AS text[])) WITH ORDINALITY AS one (who, n)
CROSS JOIN LATERAL jsonb_populate_record(pattern, jsonb_build_object('id', :prefix || n, 'user_id', one.who)) AS made
WHERE pattern.id = :pattern
""")


def submitted(users: list[str]) -> list[Job]:
    """A submitted job of three credits for each of these."""
    pattern = a_job(user_id=users[0], credits=3)
    with postgres.transaction() as tx:
        jobs.add(tx, pattern)
        tx.execute(JOBS, {"users": users, "prefix": f"{pattern.id}-", "pattern": pattern.id})
    return [a_job(id=f"{pattern.id}-{n}", user_id=user, credits=3) for n, user in enumerate(users, start=1)]


def debited_by_eight(those: list[Job]) -> Counter[bool]:
    """How many of these were paid (True) and how many could not be, by eight threads."""
    outcomes, turn = Counter[bool](), count()

    def work() -> None:
        while (n := next(turn)) < len(those):
            try:
                outcomes[post(debit(those[n])) is not None] += 1
            except InsufficientCredits:
                outcomes[False] += 1

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.parametrize("accounts", [1, 40])
def test_a_thousand_debits_from_eight_threads_take_what_there_is_and_no_more(accounts: int) -> None:
    users = [f"crowd-{uuid.uuid4().hex[:8]}" for _ in range(accounts)]
    each = 1000 // accounts
    affordable = each - each // 10
    with postgres.transaction() as tx:
        for user in users:
            for part in range(0, 3 * affordable, 500):
                credits = min(500, 3 * affordable - part)
                grants.give(tx, TESTER, user, credits, id=uuid.uuid4().hex, reason="a test")
    those = submitted(users * each)
    random.Random(7).shuffle(those)
    outcomes = debited_by_eight(those)
    assert outcomes == {True: affordable * accounts, False: 1000 - affordable * accounts}
    assert {balance(user) for user in users} == {0}
    walked, wrong = walk()
    assert (wrong, walked.imbalance) == ([], 0)
