"""A KEDA for one machine: one runner process for each waiting job, up to as many as there are GPUs.

It reads the very ScaledJob a cluster gets and counts as KEDA's `accurate` strategy does: a runner is pending until
its readiness file exists, which it writes right after its claim. A queue that cannot be read starts nothing and
stops nothing.
"""

import logging
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from functions.stack.process import Child, Service
from functions.stack.state import State

log = logging.getLogger(__name__)

_KEPT_LOGS = 20
_TOLD = (0, 10, 11, 12)  # `functions/render.py` says what each means
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ScaledJob:
    """What the autoscaler needs of a ScaledJob."""

    queue: str  # key of the sorted set of waiting jobs
    pool: str
    most: int  # maxReplicaCount
    jobs_per_runner: int  # listLength
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How one runner ended; `code` is minus the signal's number if a signal ended it."""

    name: str
    code: int
    claimed: bool
    log: Path


def read(path: Path) -> ScaledJob:
    """The ScaledJob in a file of manifests; ValueError when its strategy is not `accurate`."""
    documents = yaml.safe_load_all(path.read_text())
    spec: dict[str, Any] = next(one["spec"] for one in documents if one and one["kind"] == "ScaledJob")
    strategy = spec["scalingStrategy"]["strategy"]
    if strategy != "accurate":
        raise ValueError(f"{path}: strategy {strategy!r} is not known here, only 'accurate'")
    wanted = spec["triggers"][0]["metadata"]
    containers = spec["jobTargetRef"]["template"]["spec"]["containers"]
    runner = next(one for one in containers if one["name"] == spec["envSourceContainerName"])
    env = {one["name"]: one.get("value", "") for one in runner["env"]}
    return ScaledJob(
        queue=wanted["listName"],
        pool=env["POOL"],
        most=spec["maxReplicaCount"],
        jobs_per_runner=int(wanted["listLength"]),
        command=tuple(runner["command"]),
    )


def to_start(*, waiting: int, running: int, pending: int, most: int, jobs_per_runner: int = 1) -> int:
    """How many runners KEDA's `accurate` strategy would start now.

    waiting: unclaimed jobs in the queue; running: runners that have not ended, `pending` of them without a claim.
    Source: kedacore/keda 2.20, `pkg/scaling/scaledjob/metrics.go` and `pkg/scaling/executor/scale_jobs.go`.
    """
    scale = ceil(min(waiting / jobs_per_runner, most))
    effective = most - running if scale + running - pending > most else scale - pending
    return max(0, min(waiting, effective))


class _Runner:
    """One runner and the folder its readiness file appears in."""

    def __init__(self, service: Service, ready_file: Path) -> None:
        self.ready_file = ready_file
        self.child = Child(service)

    @property
    def claimed(self) -> bool:
        return self.ready_file.exists()


class Autoscaler:
    """Call `poll` a few times a second from one long-lived thread; `stop` gives the claimed jobs back."""

    def __init__(
        self,
        scaled_job: ScaledJob,
        *,
        redis_url: str,
        state: State,
        env: Mapping[str, str],
        most: int = 1,
        grace_s: float = 20.0,
    ) -> None:
        """env: the runners' whole environment but for POOL and READY_FILE; most: the GPUs of this machine."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.exits: deque[Exit] = deque(maxlen=100)
        self._scaled_job = scaled_job
        self._most = min(most, scaled_job.most)
        # Once and for at most a second: the next poll asks again, and others wait for this thread.
        self._client = redis.Redis.from_url(
            redis_url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        self._silent: type[Exception] = redis.RedisError
        self._heard = True
        self._state = state
        self._env = env
        self._grace_s = grace_s
        self._started = 0
        self._runners: list[_Runner] = []
        self._failures = 0
        self._not_before_s = 0.0

    @property
    def running(self) -> int:
        return len(self._runners)

    def poll(self) -> None:
        """Bury the runners that ended, start those the queue asks for."""
        self._collect()
        waiting = self._waiting()
        if time.monotonic() < self._not_before_s:
            return
        pending = sum(not runner.claimed for runner in self._runners)
        for _ in range(
            to_start(
                waiting=waiting,
                running=self.running,
                pending=pending,
                most=self._most,
                jobs_per_runner=self._scaled_job.jobs_per_runner,
            )
        ):
            self._runners.append(self._start())

    def stop(self) -> None:
        """SIGTERM to every runner at once, SIGKILL after the grace."""
        for runner in self._runners:
            runner.child.ask_to_stop()
        for runner in self._runners:
            runner.child.stop()
        self._collect()
        self._client.close()

    def _waiting(self) -> int:
        """The length of the queue, 0 while Redis does not answer."""
        try:
            waiting = int(self._client.zcard(self._scaled_job.queue))
        except self._silent as error:
            if self._heard:
                log.warning("the queue cannot be read, so no runner is started: %s", error)
            self._heard = False
            return 0
        self._heard = True
        return waiting

    def _start(self) -> _Runner:
        self._started += 1
        name = f"render-{self._started}"
        folder = self._state.folder("runners") / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        ready_file = folder / "claimed"
        self._state.log(f"render-{self._started - _KEPT_LOGS}").unlink(missing_ok=True)
        command = self._scaled_job.command
        service = Service(
            name=name,
            argv=(sys.executable, *command[1:]) if command[0] == "python" else command,
            env={**self._env, "POOL": self._scaled_job.pool, "READY_FILE": str(ready_file)},
            log=self._state.log(name),
            pid_file=self._state.pid_file(name),
            ready=ready_file.exists,
            stop_signal=signal.SIGTERM,
            grace_s=self._grace_s,
        )
        return _Runner(service, ready_file)

    def _collect(self) -> None:
        for runner in list(self._runners):
            code = runner.child.exit_code()
            if code is None:
                continue
            service = runner.child.service
            self.exits.append(Exit(name=service.name, code=code, claimed=runner.claimed, log=service.log))
            self._pause_after(code, claimed=runner.claimed)
            # A runner that claimed has told what became of its job; one that did not has nobody else to speak for it.
            level = logging.INFO if code in _TOLD else logging.WARNING
            log.log(level, "%s ended with %d; its log is %s", service.name, code, service.log)
            self._runners.remove(runner)
            runner.child.bury()
            shutil.rmtree(runner.ready_file.parent, ignore_errors=True)

    def _pause_after(self, code: int, *, claimed: bool) -> None:
        """A runner that fails before it claims leaves its job in the queue: without a pause it would spin."""
        if code == 0 or claimed:
            self._failures = 0
            return
        self._failures += 1
        self._not_before_s = time.monotonic() + min(0.5 * 2**self._failures, _LONGEST_PAUSE_S)
