"""Hearing twice equals hearing once: who has answered which event, and which signature was spent on what."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from functions.adapters import inbox, postgres

pytestmark = pytest.mark.usefixtures("stack")
LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def event_id() -> str:
    """The id of an event nobody has heard."""
    return uuid.uuid4().hex


def first(event_id: str, *, function: str = "debit", source: str = "/functions/submit") -> bool:
    with postgres.transaction() as tx:
        return inbox.first(tx, function=function, source=source, id=event_id)


def use(jti: str, event_id: str) -> bool:
    with postgres.transaction() as tx:
        return inbox.use_signature(tx, jti=jti, event_id=event_id, expires_at=LATER)


def test_an_event_is_heard_for_the_first_time_once(event_id: str) -> None:
    assert [first(event_id) for _ in range(3)] == [True, False, False]


def test_each_function_and_each_source_has_first_times_of_its_own(event_id: str) -> None:
    assert first(event_id)
    assert first(event_id, function="dispatch")
    assert first(event_id, source="/visionsuit/core-api")


def test_a_hearing_that_was_rolled_back_never_was(event_id: str) -> None:
    with pytest.raises(ZeroDivisionError), postgres.transaction() as tx:
        assert inbox.first(tx, function="debit", source="/functions/submit", id=event_id)
        raise ZeroDivisionError
    assert first(event_id)


def test_of_many_who_hear_an_event_at_once_one_hears_it_first(event_id: str) -> None:
    heard: list[bool] = []
    threads = [threading.Thread(target=lambda: heard.append(first(event_id))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == [False] * 5 + [True]


def test_a_signature_is_good_for_one_event_however_often_that_comes(event_id: str) -> None:
    jti = uuid.uuid4().hex
    assert [use(jti, event_id), use(jti, event_id), use(jti, "another"), use(jti, event_id)] == [
        True,
        True,
        False,
        True,
    ]


def test_a_signature_that_was_rolled_back_is_not_spent(event_id: str) -> None:
    jti = uuid.uuid4().hex
    with pytest.raises(ZeroDivisionError), postgres.transaction() as tx:
        assert inbox.use_signature(tx, jti=jti, event_id=event_id, expires_at=LATER)
        raise ZeroDivisionError
    assert use(jti, "another")


def test_a_signature_that_two_events_use_at_once_is_good_for_one_of_them() -> None:
    jti, used = uuid.uuid4().hex, []
    threads = [threading.Thread(target=lambda n=n: used.append(use(jti, f"event-{n}"))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(used) == 1


def test_a_signature_that_one_event_uses_twice_at_once_is_good_both_times(event_id: str) -> None:
    jti = uuid.uuid4().hex
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(lambda _: use(jti, event_id), range(12)))
