"""The connection that scripts run on: a thread's own, made anew when it died, never an answer too late."""

import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from functions.adapters import scripts

pytestmark = pytest.mark.usefixtures("stack")


class Struck(BaseException):
    """What a signal's handler raises."""


@pytest.fixture
def striking() -> Iterator[None]:
    """A signal strikes in a moment, whatever is going on then."""

    def strike(number: int, frame: Any) -> None:
        raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_connection_that_died_while_idle_is_made_anew() -> None:
    connection = scripts.ask("CLIENT", "ID")
    assert scripts.ask("CLIENT", "ID") == connection
    scripts.client().client_kill_filter(_id=connection)
    assert scripts.ask("CLIENT", "ID") != connection


def test_each_thread_has_a_connection_of_its_own() -> None:
    with ThreadPoolExecutor(max_workers=1) as other:
        assert other.submit(scripts.ask, "CLIENT", "ID").result() != scripts.ask("CLIENT", "ID")


@pytest.mark.usefixtures("striking")
def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next() -> None:
    bell = f"generator:{uuid.uuid4().hex}"
    with pytest.raises(Struck):
        scripts.ask("BLPOP", bell, 2)
    scripts.client().rpush(bell, "late")
    assert scripts.ask("ECHO", "mine") == "mine"


def test_a_script_that_redis_has_forgotten_is_sent_again() -> None:
    take, key = scripts.script("take"), f"generator:{uuid.uuid4().hex}"
    scripts.client().script_flush()
    assert take(key, 1, 1000, "w-1") == 1
    assert take(key, 1, 1000, "w-2") == 0
    scripts.client().delete(key)
