"""Whatever is told of a job, in whatever order and however often, it moves as the state machine says and its price is
moved once each way.

Each story is played in one transaction that is rolled back, so the running functions hear of none of it.
"""

import uuid
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import TESTER
from making import a_job, a_report
from sqlalchemy import Connection, NullPool, create_engine

from functions.adapters import artifacts, grants, inbox, jobs, ledger, outbox, postgres
from functions.domain import event, transfer
from functions.domain.errors import Failure, IllegalMove, Rejected
from functions.domain.event import Actor, CancelRequested, Event, ReviewDecided
from functions.domain.job import FINISHED, MOVES, RUNNING, Job, State
from functions.domain.request import CancelRequest, ReviewDecision
from functions.hear import listed, verb

WORKERS = ("w-1", "w-2")
PRICE = 3


class Story:
    """One job, and everything that was ever told of it."""

    def __init__(self, tx: Connection) -> None:
        self.tx = tx
        self.job_id, self.user = f"job-{uuid.uuid4().hex[:12]}", f"u-{uuid.uuid4().hex[:8]}"
        grants.give(tx, TESTER, self.user, 2 * PRICE, id=uuid.uuid4().hex, reason="a test")
        self.said: list[tuple[str, Event]] = []
        jobs.add(tx, a_job(id=self.job_id, user_id=self.user, credits=PRICE))
        self.said.append(("debit", event.JobSubmitted(job_id=self.job_id, user_id=self.user, credits=PRICE)))

    @property
    def job(self) -> Job:
        found = jobs.get(self.tx, self.job_id)
        assert found
        return found

    def hear(self, function: str, news: Event, *, id: str) -> None:
        """What `hear` does in its transaction; a refusal undoes it, and so does the word of a runner that reports
        pictures of a render it never began."""
        trial = self.tx.begin_nested()
        try:
            if inbox.first(self.tx, function=function, source="/a/test", id=id):
                said = listed(verb(function)(self.tx, news))
                outbox.put(self.tx, f"/functions/{function}", said)
                self.said += [(one.heard_by, one) for one in said if one.heard_by]
        except (Rejected, IllegalMove):
            trial.rollback()
        else:
            trial.commit()

    def tell(self, function: str, news: Event, *, fresh: bool = False) -> None:
        """Let a function hear this, as the same fact or as one nobody has heard of."""
        self.said.append((function, news))
        self.hear(function, news, id=uuid.uuid4().hex if fresh else news.id)

    def claim(self, worker: str) -> None:
        """What a runner does with a job it has claimed (`Attempt.begin`)."""
        job = self.job
        if job.state in RUNNING:
            job = job.to(State.QUEUED, cause="worker_lost", attempt=job.attempt + 1, worker=None)
            jobs.save(self.tx, job)
        if job.state is State.QUEUED:
            jobs.save(self.tx, job.to(State.DISPATCHING, worker=worker))

    def paint(self) -> None:
        if self.job.state is State.DISPATCHING:
            jobs.save(self.tx, self.job.to(State.IN_PROGRESS))

    def give_back(self) -> None:
        if self.job.state in RUNNING:
            jobs.save(self.tx, self.job.to(State.QUEUED, cause="given_back", worker=None))

    def succeed(self, worker: str, attempt: int) -> None:
        report = a_report(self.job_id, attempt=attempt, worker=worker)
        self.tell("complete", report, fresh=True)

    def fail(self, worker: str, attempt: int, kind: Failure) -> None:
        news = event.RenderFailed(
            job_id=self.job_id, attempt=attempt, worker=worker, kind=kind, code="node_error", detail="d"
        )
        self.tell("complete", news, fresh=True)

    def cancel(self, role: str) -> None:
        actor = Actor(user_id=self.user if role == "USER" else "an-admin", role=role)
        self.tell("cancel", CancelRequested.of(job_id=self.job_id, actor=actor, asked=CancelRequest()), fresh=True)

    def discard(self) -> None:
        decision = ReviewDecision(artifact_id=f"{self.job_id}-00", decision="discard")
        actor = Actor(user_id=self.user, role="CURATOR")
        self.tell("review", ReviewDecided.of(job_id=self.job_id, actor=actor, asked=decision), fresh=True)

    def again(self, which: int, fresh: bool) -> None:
        """Something that was told before is told once more: late, twice, or by somebody who forgot its id."""
        function, news = self.said[which % len(self.said)]
        self.hear(function, news, id=uuid.uuid4().hex if fresh else news.id)

    def assert_sound(self) -> None:
        moves = jobs.history(self.tx, self.job_id)
        states = [move.to_state for move in moves]
        assert states[0] is State.SUBMITTED
        assert all(onward in MOVES[state] for state, onward in pairwise(states)), states
        assert all(b.attempt - a.attempt in (0, 1) for a, b in pairwise(moves))
        assert sum(state in FINISHED for state in states) <= 1
        entries = [entry.change for entry in ledger.of_job(self.tx, transfer.account(self.user), self.job_id)]
        own = moves[-1].cause == "cancelled_by_user" and states[-2] is State.IN_PROGRESS
        refunded = states[-1] in (State.FAILED, State.CANCELLED) and not own
        paid = State.DEBITED in states
        assert entries == [-PRICE, PRICE][: paid * (1 + refunded)], states
        assert bool(artifacts.of_jobs(self.tx, [self.job_id])) == (State.AWAITING_REVIEW in states)


attempts = st.integers(1, 3)
workers = st.sampled_from(WORKERS)
acts = st.one_of(
    st.tuples(st.just("claim"), workers),
    st.tuples(st.just("claim"), workers),
    st.just(("paint",)),
    st.just(("give_back",)),
    st.tuples(st.just("succeed"), workers, attempts),
    st.tuples(st.just("fail"), workers, attempts, st.sampled_from(Failure)),
    st.tuples(st.just("cancel"), st.sampled_from(["USER", "ADMIN"])),
    st.just(("discard",)),
    *[st.tuples(st.just("again"), st.integers(0, 9), st.booleans())] * 3,
)


@pytest.fixture(scope="module")
def tx(house: Any) -> Iterator[Connection]:
    engine = create_engine(str(house.admin_database_url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.info[postgres.AFTER] = []
        yield connection


@given(story=st.lists(acts, min_size=4, max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_story_obeys_the_state_machine_and_moves_the_price_once_each_way(
    tx: Connection, story: list[tuple[Any, ...]]
) -> None:
    told = Story(tx)
    try:
        for name, *arguments in (("again", 0, False), ("again", 1, False), *story):
            getattr(told, name)(*arguments)
            told.assert_sound()
    finally:
        tx.rollback()
        tx.info[postgres.AFTER].clear()


def test_the_shortest_story_with_a_good_end_is_among_them(tx: Connection) -> None:
    told = Story(tx)
    try:
        told.again(0, False)
        told.again(1, False)
        told.claim("w-1")
        told.paint()
        told.succeed("w-1", 1)
        told.discard()
        told.assert_sound()
        assert told.job.state is State.COMPLETED
    finally:
        tx.rollback()
