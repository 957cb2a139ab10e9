"""The ledger, for a test to play with: give, pay, give back, all at once if need be, and see whether all is right."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

from live import TESTER
from making import a_job
from sqlalchemy.exc import DBAPIError

from functions.adapters import grants, jobs, ledger, postgres
from functions.adapters.ledger_verify import Finding, Walk
from functions.domain import transfer
from functions.domain.errors import InsufficientCredits, SpendingCapReached
from functions.domain.event import CreditsTransferred
from functions.domain.job import Job, State
from functions.domain.transfer import Kind, Transfer

PROOFS = {"authorised_by": "a test", "instruction": "a test"}


def post(made: Transfer, **caps: int) -> CreditsTransferred | None:
    with postgres.transaction() as tx:
        return ledger.post(tx, made, caps=caps)


def granted(user: str, amount: int) -> None:
    with postgres.transaction() as tx:
        assert grants.give(tx, TESTER, user, amount, id=uuid.uuid4().hex, reason="a test")


def balance(user: str) -> int:
    with postgres.transaction() as tx:
        return ledger.balance(tx, transfer.account(user))


def statement(user: str, **page: Any) -> list[ledger.Entry]:
    with postgres.transaction() as tx:
        return ledger.statement(tx, transfer.account(user), **page)


def kept(user: str, credits: int, **fields: Any) -> Job:
    """A job that was called off at once, so that nobody but the test moves it; the ledger does not mind."""
    job = a_job(user_id=user, credits=credits, **fields)
    with postgres.transaction() as tx:
        jobs.add(tx, job)
        jobs.save(tx, job.to(State.CANCELLED))
    return job


def debit(job: Job) -> Transfer:
    return transfer.debit(job, **PROOFS)


def refund(job: Job) -> Transfer:
    return transfer.refund(job, Kind.FAILED, **PROOFS)


def paid(user: str, credits: int, **fields: Any) -> Job:
    """A job that was paid for."""
    job = kept(user, credits, **fields)
    assert post(debit(job))
    return job


def walk() -> tuple[Walk, list[Finding]]:
    """A walk through the whole ledger, and what it found."""
    walked = Walk()
    with postgres.transaction() as tx:
        return walked, list(walked.findings(tx))


def all_at_once(*what: Callable[[], object]) -> list[object]:
    """What each of these gives, or raises, when they run at the same time."""
    said: list[object] = []
    ready = threading.Barrier(len(what))

    def run(one: Callable[[], object]) -> None:
        ready.wait()
        try:
            said.append(one())
        except (InsufficientCredits, SpendingCapReached, DBAPIError) as error:
            said.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in what]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said
