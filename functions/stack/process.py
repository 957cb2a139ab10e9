"""A child process that is looked after: how it starts, when it is ready, how it ends.

A `Service` says what should run; a `Child` is one run of it. Output goes to a log file, and every error names
that file and quotes its end, because the reason a server would not start is nearly always written there.

A child outlives nobody: on Linux the kernel sends it its stop signal when the *thread* that forked it ends
(prctl(2), PR_SET_PDEATHSIG), so start children from a thread that lives as long as they should
(`supervisor.Supervisor` does). Elsewhere, and for whatever escaped, `reap` ends it before the next start.
"""

import ctypes
import http.client
import json
import logging
import os
import pwd
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psutil  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None  # loaded before any fork
_PR_SET_PDEATHSIG = 1
_ANSWER_S = 1.0
"""How long one readiness probe may take before it counts as no."""


class ServiceFailed(Exception):
    """A part of the local stack did not start or did not stay; the text quotes the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What should run, and how one can tell that it does."""

    name: str
    argv: tuple[str, ...]
    log: Path
    pid_file: Path
    ready: Callable[[], bool]  # one cheap probe; True once it can be used
    ready_within_s: float = 30.0
    env: Mapping[str, str] | None = None  # the whole environment; None hands on ours
    cwd: Path | None = None
    user: str | None = None  # run as somebody else; only root may ask
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 5.0  # from the stop signal to SIGKILL
    before: Callable[[], None] | None = None  # runs before each start: clears what a killed run left behind


class Child:
    """One run of a service, in a session of its own: Ctrl-C in a terminal reaches us and not the child."""

    def __init__(self, service: Service) -> None:
        if service.before:
            service.before()
        self.service = service
        self.started_at_s = time.monotonic()
        service.log.parent.mkdir(parents=True, exist_ok=True)
        with service.log.open("ab") as output:
            self._process = subprocess.Popen(
                service.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=service.env,
                cwd=service.cwd,
                start_new_session=True,
                preexec_fn=_dies_with_parent(service.stop_signal),  # noqa: PLW1509  one system call, nothing held
                **become(service.user),
            )
        _remember(service, self.pid)

    @property
    def pid(self) -> int:
        pid: int = self._process.pid
        return pid

    def exit_code(self) -> int | None:
        """The exit code, minus the signal number if a signal ended it, or None while it runs."""
        return self._process.poll()

    def wait_ready(self) -> None:
        """Return once the service answers; ServiceFailed when it ends or its time runs out first."""
        deadline_s = time.monotonic() + self.service.ready_within_s
        while not self.service.ready():
            if self.exit_code() is not None:
                raise self._failed(f"ended with {self.exit_code()} before it was ready")
            if time.monotonic() > deadline_s:
                raise self._failed(f"was not ready within {self.service.ready_within_s:g} s")
            time.sleep(0.02)

    def ask_to_stop(self) -> None:
        if self.exit_code() is None:
            self._process.send_signal(self.service.stop_signal)

    def stop(self) -> int:
        """Stop signal, SIGKILL after the grace; returns the exit code."""
        self.ask_to_stop()
        try:
            self._process.wait(self.service.grace_s)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop within %g s and is killed", self.service.name, self.service.grace_s)
        self.bury()
        return self._process.wait()

    def bury(self) -> None:
        """End whatever is left of its process group (a killed server's workers still hold its port)."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.service.pid_file.unlink(missing_ok=True)

    def _failed(self, what: str) -> ServiceFailed:
        return ServiceFailed(f"{self.service.name} {what}; {last_words(self.service.log)}")


def last_words(path: Path, *, lines: int = 15) -> str:
    """The end of a log file, introduced by its name."""
    try:
        end = path.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        end = []
    if not end:
        return f"its log {path} is empty"
    return f"its log {path} ends with:\n" + "\n".join(f"    {line}" for line in end)


class Identity(TypedDict, total=False):
    """The arguments of `subprocess` that say whose process it is."""

    user: str
    group: int
    extra_groups: list[str]


def become(user: str | None) -> Identity:
    """The subprocess arguments that make a child run as `user` with no group but the user's own."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def reap(pid_file: Path) -> None:
    """End what an earlier run left behind under this pid file.

    A pid is only believed together with the moment its process was created: pids are used again.
    """
    try:
        left = json.loads(pid_file.read_text())
        process = psutil.Process(left["pid"])
        if abs(process.create_time() - left["created"]) < 1 and _runs(process):
            log.warning("%s still runs as pid %d from an earlier start; it is stopped", pid_file.stem, process.pid)
            end(process, signal.Signals(left["stop_signal"]))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pass  # nothing was left, or it is gone
    pid_file.unlink(missing_ok=True)


def end(process: psutil.Process, stop_signal: signal.Signals, *, grace_s: float = 5.0) -> None:
    """Stop a process that is no child of ours, SIGKILL after the grace."""
    deadline_s = time.monotonic() + grace_s
    with suppress(psutil.NoSuchProcess):
        process.send_signal(stop_signal)
        while _runs(process):
            if time.monotonic() > deadline_s:
                process.kill()
            time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    """Is it more than a zombie? In a container the first process may never bury those it inherits."""
    alive: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return alive


def answers(url: str) -> Callable[[], bool]:
    """A readiness probe: does GET `url` give 2xx?"""
    return lambda: 200 <= _status(url) < 300


def speaks_http(url: str) -> Callable[[], bool]:
    """A readiness probe: does anything at all come back for GET `url`, even a refusal?"""
    return lambda: _status(url) > 0


def _status(url: str) -> int:
    target = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=_ANSWER_S)
    try:
        connection.request("GET", target.path or "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _remember(service: Service, pid: int) -> None:
    with suppress(psutil.NoSuchProcess):  # gone already: nothing to remember
        created = psutil.Process(pid).create_time()
        service.pid_file.parent.mkdir(parents=True, exist_ok=True)
        facts = {"pid": pid, "created": created, "stop_signal": int(service.stop_signal)}
        service.pid_file.write_text(json.dumps(facts))


def _dies_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    parent = os.getpid()

    def ask_the_kernel() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(stop_signal))
        if os.getppid() != parent:  # it died between the fork and the line above
            os._exit(1)

    return ask_the_kernel
