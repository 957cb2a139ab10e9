"""Jobs against transfers, both ways: what somebody wrote past the doors is found, by the name of what is wrong.

Everything happens in a superuser's transaction that is rolled back.
"""

import uuid
from collections.abc import Iterator

import pytest
from book import PROOFS
from live import TESTER, Stack
from making import a_job
from sqlalchemy import Connection, NullPool, create_engine, text

from functions.adapters import grants, jobs, ledger, postgres, reconciliation
from functions.adapters.reconciliation import MEANING, Discrepancy, Walked
from functions.domain import transfer
from functions.domain.job import Job, State
from functions.domain.transfer import Kind

OF_JOB = text("SELECT kind FROM ledger_job_discrepancy WHERE job_id = :id")
OF_TRANSFER = text("SELECT kind FROM ledger_transfer_discrepancy WHERE transfer_id = :id")


@pytest.fixture
def tx(stack: Stack) -> Iterator[Connection]:
    admin = create_engine(str(stack.house.admin_database_url), poolclass=NullPool)
    with admin.connect() as tx:
        tx.info[postgres.AFTER] = []
        yield tx
        tx.rollback()


def paid(tx: Connection, *, to: tuple[State, ...] = (State.DEBITED,), credits: int = 5) -> Job:
    """A job that was paid for, and has gone this way since."""
    user = f"u-{uuid.uuid4().hex[:8]}"
    job = a_job(user_id=user, credits=credits)
    jobs.add(tx, job)
    grants.give(tx, TESTER, user, 50, id=uuid.uuid4().hex, reason="a test")
    ledger.post(tx, transfer.debit(job, **PROOFS))
    for state in to:
        job = job.to(state, worker="w" if state is State.DISPATCHING else job.worker)
        jobs.save(tx, job)
    return job


def wrong(tx: Connection, job: Job) -> list[str]:
    return list(tx.execute(OF_JOB, {"id": job.id}).scalars())


def by_force(tx: Connection, statement: str, **values: object) -> None:
    tx.execute(text("SET LOCAL session_replication_role = replica"))
    tx.execute(text(statement), values)
    tx.execute(text("SET LOCAL session_replication_role = origin"))


RENDERED = (State.DEBITED, State.QUEUED, State.DISPATCHING, State.IN_PROGRESS)


def test_jobs_that_went_their_proper_ways_agree(tx: Connection) -> None:
    submitted = a_job()
    jobs.add(tx, submitted)
    short = a_job()
    jobs.add(tx, short)
    jobs.save(tx, short.to(State.FAILED, cause="insufficient_credits"))
    done = paid(tx, to=(*RENDERED, State.AWAITING_REVIEW))
    stopped = paid(tx, to=(*RENDERED, State.CANCELLED))  # by its user, mid-render: nothing comes back
    failed = paid(tx, to=(*RENDERED, State.FAILED))
    ledger.post(tx, transfer.refund(failed, Kind.FAILED, **PROOFS))
    assert [wrong(tx, job) for job in (submitted, short, done, stopped, failed)] == [[], [], [], [], []]


def test_a_render_that_nobody_paid_for_is_found(tx: Connection) -> None:
    job = a_job()
    jobs.add(tx, job)
    jobs.save(tx, job.to(State.DEBITED))
    assert wrong(tx, job) == ["unpaid_render"]


def test_a_price_that_was_changed_afterwards_is_found(tx: Connection) -> None:
    job = paid(tx)
    by_force(tx, "UPDATE generator_job SET credits = 1 WHERE id = :id", id=job.id)
    assert wrong(tx, job) == ["wrong_price"]


def test_a_job_that_another_account_paid_for_is_found(tx: Connection) -> None:
    job = paid(tx)
    by_force(tx, "UPDATE generator_job SET user_id = 'eve' WHERE id = :id", id=job.id)
    assert wrong(tx, job) == ["wrong_payer"]


@pytest.mark.parametrize("ways", [(*RENDERED, State.FAILED), (State.DEBITED, State.CANCELLED)])
def test_a_refund_that_never_came_is_found(tx: Connection, ways: tuple[State, ...]) -> None:
    assert wrong(tx, paid(tx, to=ways)) == ["refund_missing"]


def test_a_second_refund_is_found(tx: Connection) -> None:
    job = paid(tx, to=(*RENDERED, State.FAILED))
    ledger.post(tx, transfer.refund(job, Kind.FAILED, **PROOFS))
    by_force(
        tx,
        """
        INSERT INTO generator_credit_transaction (id, debit_account, credit_account, amount, reason, kind, job_id,
            undoes, balance, authorised_by, instruction, previous, hash, at)
        SELECT id || '.again', debit_account, credit_account, amount, reason, kind, job_id, undoes, balance,
               authorised_by, instruction, previous, hash, at
        FROM generator_credit_transaction WHERE id = :id
        """,
        id=f"{job.id}:refund",
    )
    assert wrong(tx, job) == ["double_refund"]


def test_credits_that_came_back_while_the_job_goes_on_are_found(tx: Connection) -> None:
    job = paid(tx, to=RENDERED)
    ledger.post(tx, transfer.refund(job, Kind.FAILED, **PROOFS))
    assert wrong(tx, job) == ["refund_too_early"]


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        ("DELETE FROM generator_credit_grant WHERE id = :id", "grant_without_request"),
        ("UPDATE generator_credit_grant SET amount = 6 WHERE id = :id", "grant_of_another_amount"),
        ("UPDATE generator_credit_grant SET needs_approval = true WHERE id = :id", "grant_without_approval"),
    ],
)
def test_a_grant_that_nobody_approved_is_found(tx: Connection, harm: str, kind: str) -> None:
    user, id = f"u-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    given = grants.give(tx, TESTER, user, 5, id=id, reason="a test")
    assert given
    assert list(tx.execute(OF_TRANSFER, {"id": given.transfer_id}).scalars()) == []
    by_force(tx, harm, id=id)
    assert list(tx.execute(OF_TRANSFER, {"id": given.transfer_id}).scalars()) == [kind]


def test_a_transfer_of_a_job_that_is_gone_is_found(tx: Connection) -> None:
    job = paid(tx)
    by_force(tx, "DELETE FROM generator_job WHERE id = :id", id=job.id)
    assert list(tx.execute(OF_TRANSFER, {"id": f"{job.id}:debit"}).scalars()) == ["transfer_without_job"]


def test_a_walk_tells_everything_that_is_wrong_and_how_much_it_saw(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "PAGE", 3)
    unpaid = [a_job() for _ in range(7)]
    with postgres.transaction() as tx:
        for job in unpaid:
            jobs.add(tx, job)
            jobs.save(tx, job.to(State.DEBITED))
    *found, walked = reconciliation.walk()
    assert isinstance(walked, Walked)
    assert walked.jobs >= 7
    told = [one for one in found if isinstance(one, Discrepancy) and one.kind == "unpaid_render"]
    assert {job.id for job in unpaid} <= {one.job_id for one in told}
    assert len({one.job_id for one in told}) == len(told), "each is told once"
    assert all(one.meaning for one in told)
    with postgres.transaction() as tx:
        for job in unpaid:
            jobs.save(tx, job.to(State.DEBITED).to(State.FAILED))


def test_every_name_of_a_discrepancy_is_explained(tx: Connection) -> None:
    views = text(
        "SELECT pg_get_viewdef(c) FROM unnest(ARRAY['ledger_job_discrepancy', 'ledger_transfer_discrepancy']) v, "
        "LATERAL (SELECT v::regclass AS c) AS named"
    )
    said = " ".join(tx.execute(views).scalars()) + str(reconciliation.OF_GRANTS)
    assert {name for name in MEANING if f"'{name}'" not in said} == set()
