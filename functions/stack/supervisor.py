"""The supervisor: keeps an ordered set of services running until it is told to stop.

One thread of its own forks every child (see `process` for why it must be one that lives on) and looks at them
about four times a second: what died is started again on the same port, at once the first time and then with
growing pauses. It serves a test fixture and a command alike:

    with Supervisor() as supervisor:
        supervisor.start(postgres.service, valkey.service)      # together; returns once both are ready
        supervisor.tend(autoscaler)                             # polled on every look, stopped in turn
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TypeVar

from functions.stack.process import Child, Service, ServiceFailed

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_LOOK_EVERY_S = 0.25
_LONGEST_PAUSE_S = 5.0
_STEADY_AFTER_S = 10.0
"""A child that lived this long is started again at once, whatever happened before."""


class Tended(Protocol):
    """Something that wants a moment on every look, in the thread that may fork."""

    def poll(self) -> None: ...

    def stop(self) -> None: ...


class _Post:
    """A service's place in the order: its present child and how often it has died lately."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.child = Child(service)
        self.was_ready = False
        self.deaths = 0
        self.retry_at_s = 0.0

    def look(self, now_s: float) -> None:
        if not self.was_ready or self.child.exit_code() is None:
            return
        if self.retry_at_s == 0.0:
            self._mourn(now_s)
        if now_s >= self.retry_at_s:
            self.retry_at_s = 0.0
            self.child = Child(self.service)

    def _mourn(self, now_s: float) -> None:
        if now_s - self.child.started_at_s > _STEADY_AFTER_S:
            self.deaths = 0
        pause_s = min(0.05 * 2**self.deaths - 0.05, _LONGEST_PAUSE_S)
        self.deaths += 1
        self.retry_at_s = now_s + pause_s
        self.child.bury()
        name, code = self.service.name, self.child.exit_code()
        log.warning("%s ended with %s and starts again; its log is %s", name, code, self.service.log)

    def ask_to_stop(self) -> None:
        self.child.ask_to_stop()

    def stop(self) -> None:
        self.child.stop()


class Supervisor:
    """Starts services in order, restarts what dies, stops everything in reverse order; what was started together is
    stopped together."""

    def __init__(self, *, look_every_s: float = _LOOK_EVERY_S) -> None:
        self._look_every_s = look_every_s
        self._order: list[_Post | Tended] = []
        self._together: list[list[_Post]] = []
        self._asked: queue.Queue[Callable[[], None]] = queue.Queue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="supervisor", daemon=True)
        self._thread.start()

    def start(self, *services: Service) -> None:
        """Start these together and return once all are ready; ServiceFailed quotes the log if one is not."""
        posts = [self._post(service) for service in services]
        self._together.append(posts)
        for post in posts:
            post.child.wait_ready()
            post.was_ready = True

    def tend(self, tended: Tended) -> None:
        """Poll this on every look from now on, and stop it in its turn."""
        self._ask(lambda: self._order.append(tended))

    def pid(self, name: str) -> int:
        """The pid a service has at the moment; it changes when the service is started again."""
        return self._named(name).child.pid

    def wait_ready(self, name: str) -> None:
        """Return once a service answers, through as many restarts as that takes within its own time."""
        post = self._named(name)
        deadline_s = time.monotonic() + post.service.ready_within_s
        while post.child.exit_code() is not None or not post.service.ready():
            if time.monotonic() > deadline_s:
                raise ServiceFailed(f"{name} did not come back; its log is {post.service.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop everything, the last started first; calling it again does nothing."""
        self._over.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _post(self, service: Service) -> _Post:
        def place() -> _Post:
            post = _Post(service)
            self._order.append(post)
            return post

        return self._ask(place)

    def _named(self, name: str) -> _Post:
        for post in self._order:
            if isinstance(post, _Post) and post.service.name == name:
                return post
        raise KeyError(name)

    def _ask(self, wish: Callable[[], _T]) -> _T:
        """What `wish` returns or raises, run in the supervisor's thread."""
        if self._over.is_set():
            raise RuntimeError("the supervisor has stopped; start a new one")
        answer: Future[_T] = Future()

        def grant() -> None:
            try:
                answer.set_result(wish())
            except BaseException as error:  # noqa: BLE001  it is raised again where the wish was made
                answer.set_exception(error)

        self._asked.put(grant)
        return answer.result()

    def _live(self) -> None:
        while not self._over.is_set():
            with suppress(queue.Empty):
                self._asked.get(timeout=self._look_every_s)()
            self._look()
        for tended in reversed(self._order):
            for post in next((those for those in self._together if those[-1:] == [tended]), []):
                _survive(post.ask_to_stop)
            _survive(tended.stop)

    def _look(self) -> None:
        now_s = time.monotonic()
        for tended in self._order:
            _survive(partial(tended.look, now_s) if isinstance(tended, _Post) else tended.poll)


def _survive(step: Callable[[], object]) -> None:
    """Run one step; an error in it is logged, since the other services still need this thread."""
    try:
        step()
    except Exception:
        log.exception("a step of the supervisor failed")
