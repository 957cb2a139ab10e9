"""The ledger: no overdraft, nothing twice, nothing edited, and a chain that shows whoever tried."""

import hashlib
import random
import threading
import uuid
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import Stack
from making import a_job
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from functions.adapters import jobs, ledger, postgres
from functions.domain import transfer
from functions.domain.errors import InsufficientCredits
from functions.domain.event import CreditsTransferred
from functions.domain.job import Job, State
from functions.domain.transfer import Transfer

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def ann() -> str:
    """A user nobody has heard of."""
    return f"ann-{uuid.uuid4().hex[:8]}"


def post(made: Transfer) -> CreditsTransferred | None:
    with postgres.transaction() as tx:
        return ledger.post(tx, made)


def granted(user: str, amount: int) -> None:
    assert post(transfer.grant(user, amount, key=uuid.uuid4().hex, authorised_by="a test"))


def balance(user: str) -> int:
    with postgres.transaction() as tx:
        return ledger.balance(tx, transfer.account(user))


def statement(user: str, **page: Any) -> list[ledger.Entry]:
    with postgres.transaction() as tx:
        return ledger.statement(tx, transfer.account(user), **page)


def imbalance() -> int:
    with postgres.transaction() as tx:
        return ledger.imbalance(tx)


def kept(user: str, credits: int) -> Job:
    """A job that was called off at once, so that nobody but the test moves it; the ledger does not mind."""
    job = a_job(user_id=user, credits=credits)
    with postgres.transaction() as tx:
        jobs.add(tx, job)
        jobs.save(tx, job.to(State.CANCELLED))
    return job


def debit(job: Job) -> Transfer:
    return transfer.debit(job, authorised_by="a test")


def refund(job: Job) -> Transfer:
    return transfer.refund(job, authorised_by="a test")


def all_at_once(*what: Callable[[], object]) -> list[object]:
    """What each of these gives, or raises, when they run at the same time."""
    said: list[object] = []
    ready = threading.Barrier(len(what))

    def run(one: Callable[[], object]) -> None:
        ready.wait()
        try:
            said.append(one())
        except (InsufficientCredits, DBAPIError) as error:
            said.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in what]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


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
    paid = debit(kept(ann, 4))
    assert [post(paid) is not None, post(paid), post(paid)] == [True, None, None]
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
    paid = debit(kept(ann, 3))
    said = all_at_once(*(partial(post, paid) for _ in range(6)))
    assert sum(one is not None for one in said) == 1
    assert balance(ann) == 7


def test_the_first_credits_of_a_new_user_may_come_from_many_at_once(ann: str) -> None:
    all_at_once(*(partial(granted, ann, 5) for _ in range(6)))
    assert balance(ann) == 30


def test_a_job_is_refunded_exactly_once_and_only_if_it_was_paid(ann: str) -> None:
    granted(ann, 10)
    job = kept(ann, 4)
    with pytest.raises(DBAPIError, match="is no such debit"):
        post(refund(job))
    post(debit(job))
    said = all_at_once(*(partial(post, refund(job)) for _ in range(4)))
    assert sum(isinstance(one, CreditsTransferred) for one in said) == 1
    assert balance(ann) == 10


@pytest.mark.parametrize(
    "change", [{"id": "another:refund"}, {"credit_account": "user:eve"}, {"amount": 5}, {"job_id": None}]
)
def test_a_refund_that_is_not_of_that_debit_is_refused(ann: str, change: dict[str, Any]) -> None:
    granted(ann, 10)
    job = kept(ann, 4)
    post(debit(job))
    if "id" in change:
        post(refund(job))
    with pytest.raises(DBAPIError):
        post(Transfer(**vars(refund(job)) | change))
    assert balance("eve") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": -5},
        {"credit_account": "user:eve"},
        {"debit_account": "treasury", "credit_account": "revenue"},
        {"credit_account": "a pocket"},
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
    job = kept(ann, 4)
    post(debit(job))
    with pytest.raises(DBAPIError, match="one_debit"):
        post(Transfer(**vars(debit(job)) | {"id": "another"}))


def test_a_statement_explains_the_balance_line_by_line_newest_first(ann: str) -> None:
    granted(ann, 10)
    job = kept(ann, 4)
    post(debit(job))
    post(refund(job))
    assert [(e.reason, e.change, e.balance) for e in statement(ann)] == [
        ("refund", 4, 10),
        ("debit", -4, 6),
        ("grant", 10, 10),
    ]
    first_two = statement(ann, limit=2)
    assert statement(ann, before=(first_two[-1].at, first_two[-1].id)) == statement(ann)[2:]


def test_what_a_job_did_to_its_users_account_is_told_by_itself(ann: str) -> None:
    granted(ann, 10)
    job = kept(ann, 4)
    post(debit(job))
    post(refund(job))
    with postgres.transaction() as tx:
        assert [e.change for e in ledger.of_job(tx, transfer.account(ann), job.id)] == [-4, 4]


def test_rows_made_at_the_same_time_are_dated_in_the_order_they_were_made(ann: str) -> None:
    granted(ann, 100)
    all_at_once(*(partial(post, debit(kept(ann, n))) for n in range(1, 8)))
    lines = statement(ann)
    assert all(newer.balance == older.balance + newer.change for newer, older in pairwise(lines))


WRITES = [
    "INSERT INTO generator_credit_account (id, balance) VALUES ('user:eve', 1000000)",
    "UPDATE generator_credit_account SET balance = balance + 1",
    "DELETE FROM generator_credit_account",
    "TRUNCATE generator_credit_account CASCADE",
    "INSERT INTO generator_credit_transaction SELECT * FROM generator_credit_transaction LIMIT 1",
    "UPDATE generator_credit_transaction SET amount = amount + 1",
    "DELETE FROM generator_credit_transaction",
    "TRUNCATE generator_credit_transaction",
    "ALTER TABLE generator_credit_transaction DISABLE TRIGGER append_only",
    "DROP TABLE generator_credit_transaction",
]


@pytest.mark.parametrize("write", WRITES)
def test_the_functions_role_cannot_write_the_ledger_but_through_the_routine(write: str) -> None:
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"), postgres.transaction() as tx:
        tx.execute(text(write))


@pytest.mark.parametrize("write", [one for one in WRITES[5:8]])
def test_not_even_the_owner_edits_or_removes_a_transfer(stack: Stack, ann: str, write: str) -> None:
    granted(ann, 1)
    owner = create_engine(stack.house.env["MIGRATIONS_DATABASE_URL"])
    with pytest.raises(DBAPIError, match="only ever added to"), owner.begin() as tx:
        tx.execute(text(write))
    owner.dispose()


def test_a_temporary_table_cannot_stand_in_for_a_real_one(ann: str) -> None:
    with postgres.transaction() as tx:
        tx.execute(text("CREATE TEMP TABLE generator_credit_account (LIKE public.generator_credit_account)"))
        tx.execute(text("GRANT ALL ON pg_temp.generator_credit_account TO PUBLIC"))
        tx.execute(
            text("INSERT INTO pg_temp.generator_credit_account (id, balance, created_at) VALUES (:id, 1000, now())"),
            {"id": f"user:{ann}"},
        )
        with pytest.raises(InsufficientCredits):
            ledger.post(tx, Transfer(**vars(debit(a_job(user_id=ann))) | {"job_id": None}))
        tx.rollback()


CHAIN = text("""
SELECT previous, hash, jsonb_build_array(id, debit_account, credit_account, amount, reason, job_id, undoes, balance,
    authorised_by, posted_by, extract(epoch FROM at))::text AS said
FROM generator_credit_transaction WHERE debit_account = :account OR credit_account = :account ORDER BY at
""")
HEAD = text("SELECT head FROM generator_credit_account WHERE id = :account")


def broken_links(tx: Connection, account: str) -> int:
    """How many rows of the account do not follow from the one before, counting its head as one more row."""
    chain, broken = None, 0
    for row in tx.execute(CHAIN, {"account": account}):
        broken += row.previous != chain or row.hash != hashlib.sha256((chain or b"") + row.said.encode()).digest()
        chain = row.hash
    return broken + (chain != tx.execute(HEAD, {"account": account}).scalar())


def test_the_chain_of_an_account_can_be_computed_anew_from_its_rows(ann: str) -> None:
    granted(ann, 100)
    all_at_once(
        *(partial(post, debit(kept(ann, n))) for n in range(1, 6)),
        *(partial(granted, ann, n) for n in range(1, 4)),
    )
    with postgres.transaction() as tx:
        assert broken_links(tx, f"user:{ann}") == 0


@pytest.mark.parametrize("harm", ["UPDATE {} SET amount = 99 WHERE id = :id", "DELETE FROM {} WHERE id = :id"])
def test_a_row_that_was_edited_or_removed_by_force_breaks_the_chain(stack: Stack, ann: str, harm: str) -> None:
    for _ in range(3):
        granted(ann, 5)
    second = statement(ann)[1].id
    superuser = create_engine(stack.house.admin_database_url)
    with superuser.connect() as tx:
        tx.execute(text("ALTER TABLE generator_credit_transaction DISABLE TRIGGER append_only"))
        tx.execute(text(harm.format("generator_credit_transaction")), {"id": second})
        assert broken_links(tx, f"user:{ann}") == 1
        tx.rollback()
    superuser.dispose()


def test_the_book_sums_to_zero() -> None:
    assert imbalance() == 0


#: grant so much, pay a new job of so much, or refund the n-th job made so far
acts = st.one_of(
    st.tuples(st.just("grant"), st.integers(1, 20)),
    st.tuples(st.just("pay"), st.integers(1, 20)),
    st.tuples(st.just("refund"), st.integers(0, 5)),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(acts, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_whatever_happens_in_whatever_order_the_balance_is_the_sum_of_the_lines(
    history: list[tuple[str, int]], chance: random.Random
) -> None:
    user = f"random-{uuid.uuid4().hex[:10]}"
    made = [kept(user, amount) for act, amount in history if act == "pay"]
    unpaid = iter(made)

    def doing(act: str, amount: int) -> Callable[[], object]:
        if act == "grant":
            return partial(granted, user, amount)
        if act == "pay":
            return partial(post, debit(next(unpaid)))
        return partial(post, refund(made[amount % len(made)])) if made else partial(balance, user)

    doings = [doing(*step) for step in history]
    said = all_at_once(*(one for one in doings for _ in range(chance.randint(1, 2))))
    unplanned = [one for one in said if isinstance(one, Exception)]
    assert all("is no such debit" in str(e) or isinstance(e, InsufficientCredits) for e in unplanned)
    lines = statement(user)
    assert balance(user) == sum(line.change for line in lines) >= 0
    assert all(line.balance >= 0 for line in lines)
    assert len({line.id for line in lines}) == len(lines)
    with postgres.transaction() as tx:
        assert broken_links(tx, f"user:{user}") == 0
        assert ledger.imbalance(tx) == 0
