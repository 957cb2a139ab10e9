"""The autoscaler against a real queue, with runners that do nothing but claim when they are told to."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from neighbour import eventually
from servers import Servers

from functions.stack import autoscaler
from functions.stack.autoscaler import Autoscaler, ScaledJob, to_start
from functions.stack.state import State

ROOT = Path(__file__).parents[2]
WAITS = 'trap "exit 7" TERM; while [ ! -e ../claim ]; do sleep 0.02; done; touch "$READY_FILE"; sleep 60 & wait'


@pytest.mark.parametrize(
    ("waiting", "running", "pending", "most", "started"),
    [
        (0, 0, 0, 4, 0),
        (1, 0, 0, 4, 1),
        (1, 1, 1, 4, 0),  # the one under way will take it
        (1, 1, 0, 4, 1),  # the one running has its own
        (9, 0, 0, 4, 4),
        (9, 3, 0, 4, 1),
        (9, 4, 0, 4, 0),
        (3, 2, 1, 4, 2),
        (9, 4, 4, 4, 0),
        (2, 3, 3, 4, 0),  # more are coming than wait
    ],
)
def test_accurate_starts_as_many_as_wait_and_nobody_is_coming_for(
    waiting: int, running: int, pending: int, most: int, started: int
) -> None:
    assert to_start(waiting=waiting, running=running, pending=pending, most=most) == started


def test_a_runner_that_takes_several_jobs_is_started_for_several() -> None:
    assert to_start(waiting=5, running=0, pending=0, most=10, jobs_per_runner=2) == 3


def test_no_count_of_runners_ever_passes_the_most() -> None:
    for waiting in range(12):
        for running in range(6):
            for pending in range(running + 1):
                started = to_start(waiting=waiting, running=running, pending=pending, most=5)
                assert 0 <= started <= max(0, 5 - running) or running > 5


@pytest.fixture
def queue(servers: Servers) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(servers.valkey.url)
    client.delete("generator:{default}:queue")
    yield client
    client.delete("generator:{default}:queue")


@pytest.fixture
def scale(servers: Servers, folder: Path) -> Iterator[Callable[..., Autoscaler]]:
    """Makes autoscalers whose runner is a shell script, in the folder of its readiness file."""
    made: list[Autoscaler] = []
    with State(folder) as state:

        def make(script: str, *, url: str = servers.valkey.url, most: int = 3) -> Autoscaler:
            job = autoscaler.read(ROOT / "keda/scaledjob.yaml")
            command = ("sh", "-c", f'cd "${{READY_FILE%/*}}"; {script}')
            scaled: ScaledJob = replace(job, command=command)
            made.append(Autoscaler(scaled, redis_url=url, state=state, env={"PATH": "/usr/bin:/bin"}, most=most))
            return made[-1]

        yield make
        for one in made:
            one.stop()


def test_each_waiting_job_gets_a_runner_up_to_the_most(
    scale: Callable[..., Autoscaler], queue: redis.Redis, folder: Path
) -> None:
    scaler = scale(WAITS)
    queue.zadd("generator:{default}:queue", {"a": 1, "b": 2})
    scaler.poll()
    scaler.poll()
    assert scaler.running == 2
    queue.delete("generator:{default}:queue")
    (folder / "runners" / "claim").touch()
    eventually(lambda: len(list((folder / "runners").glob("*/claimed"))) == 2)
    queue.zadd("generator:{default}:queue", {"c": 3, "d": 4})
    scaler.poll()
    assert scaler.running == 3


def test_the_runners_know_their_pool_and_nothing_else_of_ours(
    scale: Callable[..., Autoscaler], queue: redis.Redis, folder: Path
) -> None:
    scaler = scale('env > ../seen.part; mv ../seen.part ../seen; touch "$READY_FILE"')
    queue.zadd("generator:{default}:queue", {"a": 1})
    scaler.poll()
    eventually((folder / "runners" / "seen").exists)
    names = {line.partition("=")[0] for line in (folder / "runners" / "seen").read_text().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "POOL", "READY_FILE"}


def test_runners_end_with_the_autoscaler_and_their_exit_codes_are_kept(
    scale: Callable[..., Autoscaler], queue: redis.Redis, folder: Path
) -> None:
    scaler = scale(WAITS)
    (folder / "runners").mkdir(exist_ok=True)
    (folder / "runners" / "claim").touch()
    queue.zadd("generator:{default}:queue", {"a": 1})
    scaler.poll()
    eventually(lambda: list((folder / "runners").glob("*/claimed")))
    scaler.stop()
    (ended,) = scaler.exits
    assert (ended.code, ended.claimed, ended.log.exists()) == (7, True, True)


def test_a_runner_that_fails_before_its_claim_is_not_started_again_at_once(
    scale: Callable[..., Autoscaler], queue: redis.Redis
) -> None:
    scaler = scale("exit 1", most=1)
    queue.zadd("generator:{default}:queue", {"a": 1})
    for _ in range(20):
        scaler.poll()
        eventually(lambda: all(runner.child.exit_code() is not None for runner in scaler._runners))
    assert len(scaler.exits) == 1


def test_a_queue_that_does_not_answer_starts_nothing_and_stops_nothing(
    scale: Callable[..., Autoscaler], folder: Path
) -> None:
    scaler = scale(WAITS, url="redis://127.0.0.1:1/0")
    scaler.poll()
    scaler.poll()
    assert scaler.running == 0
