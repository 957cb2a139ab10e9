"""A quote stands for its time: the same request costs what was quoted, whatever has become of the prices."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from book import granted
from live import Stack
from sqlalchemy import Connection

from functions.adapters import jobs, postgres, quotes
from functions.domain.errors import Rejected
from functions.domain.event import Actor, JobRequested
from functions.domain.price import Quote
from functions.domain.request import JobRequest
from functions.submit import submit

CHEAP = Quote(version="1,base=0.5", render=2, loras=1, boost=0)
NOW = datetime.now(UTC)


@pytest.fixture
def ann() -> str:
    """A user with ten credits."""
    user = f"ann-{uuid.uuid4().hex[:8]}"
    granted(user, 10)
    return user


@pytest.fixture
def tx(stack: Stack) -> Iterator[Connection]:
    """A transaction that is rolled back."""
    with postgres.transaction() as tx:
        yield tx
        tx.rollback()


@pytest.fixture
def asked(stack: Stack) -> JobRequest:
    return JobRequest(prompt="a heron at dawn", model=stack.model, width=1024, height=1024, images=8)


def quoted(tx: Connection, asked: JobRequest, user: str, *, valid_s: float = 900) -> JobRequest:
    """The request, with a quote that says it is cheap."""
    return replace(asked, quote_id=quotes.keep(tx, asked, CHEAP, user_id=user, now=NOW, valid_s=valid_s).id)


def refused(tx: Connection, asked: JobRequest, user: str, *, now: datetime = NOW) -> str:
    with pytest.raises(Rejected) as no:
        quotes.find(tx, asked, user_id=user, now=now)
    assert no.value.field == "quote_id"
    return no.value.code


def test_a_job_costs_what_was_quoted_and_says_by_which_formula(tx: Connection, asked: JobRequest, ann: str) -> None:
    job_id = f"job-{uuid.uuid4().hex[:12]}"
    wanted = quoted(tx, asked, ann)
    told = submit(tx, JobRequested.of(job_id=job_id, actor=Actor(user_id=ann, role="CURATOR"), asked=wanted))
    job = jobs.get(tx, job_id)
    assert told and job
    assert (told.credits, job.credits, job.price_version, job.quote_id) == (3, 3, CHEAP.version, wanted.quote_id)


def test_without_its_quote_the_same_request_costs_todays_price(tx: Connection, asked: JobRequest, ann: str) -> None:
    quoted(tx, asked, ann)
    job_id = f"job-{uuid.uuid4().hex[:12]}"
    told = submit(tx, JobRequested.of(job_id=job_id, actor=Actor(user_id=ann, role="CURATOR"), asked=asked))
    assert told
    assert told.credits > 3


def test_a_quote_is_for_the_same_request_only(tx: Connection, asked: JobRequest, ann: str) -> None:
    wanted = quoted(tx, asked, ann)
    assert quotes.find(tx, wanted, user_id=ann, now=NOW) == CHEAP
    for change in ({"images": 7}, {"prompt": "an egret"}, {"boost": 1}, {"seed": 7}, {"pay_from": "pool:studio"}):
        assert refused(tx, replace(wanted, **change), ann) == "quote_mismatch"


def test_a_quote_is_its_users_only(tx: Connection, asked: JobRequest, ann: str) -> None:
    wanted = quoted(tx, asked, ann)
    assert refused(tx, wanted, "eve") == "unknown_quote"
    assert refused(tx, replace(wanted, quote_id="quote-of-nobody"), ann) == "unknown_quote"


def test_a_quote_stands_until_it_expires(tx: Connection, asked: JobRequest, ann: str) -> None:
    wanted = quoted(tx, asked, ann, valid_s=60)
    assert quotes.find(tx, wanted, user_id=ann, now=NOW + timedelta(seconds=60)) == CHEAP
    assert refused(tx, wanted, ann, now=NOW + timedelta(seconds=61)) == "quote_expired"


def test_what_stands_no_longer_is_forgotten(asked: JobRequest, ann: str) -> None:
    with postgres.transaction() as tx:
        gone, stands = quoted(tx, asked, ann, valid_s=-1), quoted(tx, asked, ann)
    quotes.forget()
    with postgres.transaction() as tx:
        assert refused(tx, gone, ann) == "unknown_quote"
        assert quotes.find(tx, stands, user_id=ann, now=NOW) == CHEAP
