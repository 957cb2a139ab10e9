"""Telling is as sure as deciding: an event is kept with its work, and told until somebody has heard it."""

import os
import signal
import threading
import uuid
from collections.abc import Iterator

import pytest
from live import Stack
from making import NOW
from neighbours import Listener
from sqlalchemy import text

from functions.adapters import inbox, outbox, postgres, shapes
from functions.config import config
from functions.domain import event
from functions.domain.errors import Unavailable
from functions.domain.event import Event

SOURCE = "/functions/a-test"


@pytest.fixture
def broker(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A Broker that writes down what it is given, for this process only. Sweep holds still meanwhile, or it might tell
    the stack's own Broker first."""
    sweep = stack.house.supervisor.pid("sweep")
    os.kill(sweep, signal.SIGSTOP)
    with Listener() as listener:
        monkeypatch.setenv("K_SINK", listener.url)
        monkeypatch.setenv("RETELL_S", "1000")
        config.cache_clear()
        yield listener
    os.kill(sweep, signal.SIGCONT)
    monkeypatch.undo()
    config.cache_clear()


@pytest.fixture
def job_id(broker: Listener) -> Iterator[str]:
    """A job's id; what was said of it is done with after the test, or sweep would go on telling it."""
    name = f"job-{uuid.uuid4().hex[:12]}"
    yield name
    outbox.MARKS.flush()
    with postgres.transaction() as tx:
        tx.execute(text("UPDATE outbox SET told_at = now() WHERE subject = :id"), {"id": name})


def world(job_id: str, attempt: int = 1) -> Event:
    """An event that only the world listens to."""
    return event.JobQueued(job_id=job_id, attempt=attempt, user_id="u", previous="debited", state="queued", at=NOW)


def ours(job_id: str) -> Event:
    """An event that debit must hear."""
    return event.JobSubmitted(job_id=job_id, user_id="u", credits=1)


def say(*events: Event, source: str = SOURCE) -> None:
    with postgres.transaction() as tx:
        outbox.put(tx, source, events)


def told(job_id: str) -> dict[str, bool]:
    """Which of a job's events were told so far."""
    outbox.MARKS.flush()
    with postgres.transaction() as tx:
        return {telling.id: telling.told_at is not None for telling in outbox.story(tx, job_id)}


def make_due(job_id: str) -> None:
    """Let the moment come at which sweep tells this job's events again."""
    with postgres.transaction() as tx:
        tx.execute(text("UPDATE outbox SET retell_at = now() WHERE subject = :id"), {"id": job_id})


def test_what_is_said_is_posted_once_its_work_stands(broker: Listener, job_id: str) -> None:
    said = world(job_id)
    with postgres.transaction() as tx:
        outbox.put(tx, SOURCE, [said])
        assert broker.heard == []
    [(headers, body)] = broker.heard
    assert {name: headers[f"ce-{name}"] for name in ("id", "source", "type", "subject", "specversion")} == {
        "id": said.id,
        "source": SOURCE,
        "type": said.type,
        "subject": job_id,
        "specversion": "1.0",
    }
    assert headers["content-type"] == "application/json"
    assert shapes.parse(event.JobQueued, body) == said


def test_work_that_is_rolled_back_says_nothing_and_leaves_nothing(broker: Listener, job_id: str) -> None:
    with pytest.raises(ZeroDivisionError), postgres.transaction() as tx:
        outbox.put(tx, SOURCE, [world(job_id)])
        raise ZeroDivisionError
    assert broker.heard == []
    assert told(job_id) == {}


def test_saying_nothing_is_possible(broker: Listener) -> None:
    say()
    assert broker.heard == []


def test_the_same_fact_said_twice_is_kept_once(broker: Listener, job_id: str) -> None:
    say(world(job_id))
    say(world(job_id))
    assert len(told(job_id)) == 1


def test_an_event_for_the_world_is_told_once_the_broker_has_taken_it(broker: Listener, job_id: str) -> None:
    say(world(job_id))
    assert told(job_id) == {f"{job_id}:job.queued:1": True}


def test_an_event_that_a_function_must_hear_is_told_when_that_function_has(broker: Listener, job_id: str) -> None:
    said = ours(job_id)
    say(said)
    assert told(job_id) == {said.id: False}
    with postgres.transaction() as tx:
        inbox.first(tx, function="debit", source=SOURCE, id=said.id)
    assert told(job_id) == {said.id: True}


def test_a_hearing_that_was_rolled_back_leaves_the_event_untold(broker: Listener, job_id: str) -> None:
    said = ours(job_id)
    say(said)
    with pytest.raises(ZeroDivisionError), postgres.transaction() as tx:
        inbox.first(tx, function="debit", source=SOURCE, id=said.id)
        raise ZeroDivisionError
    assert told(job_id) == {said.id: False}


def test_a_broker_that_is_down_does_not_undo_the_work(broker: Listener, job_id: str) -> None:
    broker.status = 503
    say(world(job_id), ours(job_id))
    assert set(told(job_id).values()) == {False}
    assert len(broker.heard) == 1, "where one is not taken the next would not be either"


def test_what_nobody_has_heard_is_told_again_the_very_same(broker: Listener, job_id: str) -> None:
    broker.status = 503
    say(world(job_id), ours(job_id))
    broker.status, broker.heard = 202, []
    make_due(job_id)
    assert outbox.retell() >= 2
    again = {headers["ce-id"]: body for headers, body in broker.heard if headers["ce-subject"] == job_id}
    assert shapes.parse(event.JobSubmitted, again[ours(job_id).id]) == ours(job_id)
    assert shapes.parse(event.JobQueued, again[world(job_id).id]) == world(job_id)
    assert told(job_id) == {world(job_id).id: True, ours(job_id).id: False}


def test_what_was_told_is_not_told_again_and_neither_is_what_was_told_just_now(broker: Listener, job_id: str) -> None:
    say(world(job_id, 1), ours(job_id))
    told(job_id)
    broker.heard = []
    outbox.retell()
    assert job_id not in {headers["ce-subject"] for headers, _ in broker.heard}
    make_due(job_id)
    outbox.retell()
    outbox.retell()
    assert [headers["ce-id"] for headers, _ in broker.heard if headers["ce-subject"] == job_id] == [ours(job_id).id]


def test_a_retelling_that_fails_waits_its_turn_and_loses_nothing(broker: Listener, job_id: str) -> None:
    broker.status = 503
    say(ours(job_id))
    make_due(job_id)
    with pytest.raises(Unavailable, match="the Broker answered 503"):
        outbox.retell()
    assert told(job_id) == {ours(job_id).id: False}


def test_two_who_retell_at_once_share_the_work_and_never_wait_for_each_other(broker: Listener, job_id: str) -> None:
    broker.status = 503
    say(*(world(job_id, attempt) for attempt in range(1, 41)))
    broker.status, broker.heard = 202, []
    make_due(job_id)
    threads = [threading.Thread(target=outbox.retell, kwargs={"limit": 20}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard = [headers["ce-id"] for headers, _ in broker.heard if headers["ce-subject"] == job_id]
    assert len(heard) == len(set(heard)) == 40
    assert set(told(job_id).values()) == {True}


def test_a_broker_that_answers_nothing_at_all_is_unavailable(
    broker: Listener, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K_SINK", "http://127.0.0.1:1")
    config.cache_clear()
    say(ours(job_id))
    make_due(job_id)
    with pytest.raises(Unavailable, match="the Broker cannot be reached"):
        outbox.retell()


def test_why_a_request_never_became_a_job_can_be_asked(broker: Listener, job_id: str) -> None:
    refused = event.JobRejected(job_id=job_id, code="unknown_model", detail="there is none", field="model")
    say(refused, source="/functions/submit")
    with postgres.transaction() as tx:
        assert outbox.refusal(tx, job_id) == refused
        assert outbox.refusal(tx, "no-such-job") is None
