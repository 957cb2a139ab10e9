import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from neighbour import eventually

from functions.stack.process import Child, Service, ServiceFailed, answers
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
PATIENT = "trap 'exit 0' TERM; while :; do sleep 0.02; done"


@pytest.fixture
def state(folder: Path) -> Iterator[State]:
    with State(folder) as opened:
        yield opened


def shell(state: State, name: str, script: str, **more: object) -> Service:
    """A service that is a shell script, ready as soon as a file of its name appears."""
    mark = state.root / name
    return Service(
        name=name,
        argv=("sh", "-c", script.replace("MARK", str(mark))),
        log=state.log(name),
        pid_file=state.pid_file(name),
        **{"ready": mark.exists, **more},  # type: ignore[arg-type]
    )


def web(state: State) -> Service:
    port = state.port("web")
    return Service(
        name="web",
        argv=(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)),
        log=state.log("web"),
        pid_file=state.pid_file("web"),
        ready=answers(f"http://127.0.0.1:{port}/"),
        cwd=state.root,
    )


def test_a_service_that_ends_too_early_is_an_error_that_quotes_its_log(state: State) -> None:
    with Supervisor() as supervisor, pytest.raises(ServiceFailed) as failed:
        supervisor.start(shell(state, "broken", "echo the disk is full; exit 3"))
    assert "broken ended with 3 before it was ready" in str(failed.value)
    assert "the disk is full" in str(failed.value)
    assert str(state.log("broken")) in str(failed.value)


def test_a_service_that_is_never_ready_is_an_error_too(state: State) -> None:
    with Supervisor() as supervisor, pytest.raises(ServiceFailed, match=r"was not ready within 0\.1 s"):
        supervisor.start(shell(state, "slow", PATIENT, ready_within_s=0.1))


def test_a_service_that_dies_comes_back_on_the_same_port_again_and_again(state: State) -> None:
    with Supervisor(look_every_s=0.02) as supervisor:
        supervisor.start(web(state))
        for _ in range(2):
            before = supervisor.pid("web")
            os.kill(before, signal.SIGKILL)
            eventually(lambda before=before: supervisor.pid("web") != before)
            supervisor.wait_ready("web")


def test_everything_stops_in_reverse_order(state: State) -> None:
    with Supervisor() as supervisor:
        for name in ("first", "second", "third"):
            trap = f"trap 'echo {name} >> {state.root}/order; exit 0' TERM; touch MARK; while :; do sleep 0.02; done"
            supervisor.start(shell(state, name, trap))
    assert (state.root / "order").read_text().split() == ["third", "second", "first"]


def test_a_service_deaf_to_its_stop_signal_is_killed_after_the_grace(state: State) -> None:
    with Supervisor() as supervisor:
        supervisor.start(shell(state, "deaf", "trap '' TERM; touch MARK; while :; do sleep 0.02; done", grace_s=0.1))
        pid = supervisor.pid("deaf")
    assert not psutil.pid_exists(pid)


def test_the_children_of_a_killed_service_do_not_stay(state: State) -> None:
    with Supervisor(look_every_s=0.02) as supervisor:
        supervisor.start(shell(state, "parent", "sleep 60 & echo $! > MARK.pid; mv MARK.pid MARK; wait"))
        child = int((state.root / "parent").read_text())
        os.kill(supervisor.pid("parent"), signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_an_error_in_what_it_tends_leaves_the_services_looked_after(state: State) -> None:
    class Clumsy:
        polls = 0
        stopped = False

        def poll(self) -> None:
            self.polls += 1
            raise OSError("no")

        def stop(self) -> None:
            self.stopped = True

    clumsy = Clumsy()
    with Supervisor(look_every_s=0.02) as supervisor:
        supervisor.start(web(state))
        supervisor.tend(clumsy)
        eventually(lambda: clumsy.polls > 2)
        before = supervisor.pid("web")
        os.kill(before, signal.SIGKILL)
        eventually(lambda: supervisor.pid("web") != before)
    assert clumsy.stopped


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_no_child_outlives_a_killed_supervisor(folder: Path) -> None:
    script = f"""
from pathlib import Path
import time
from functions.stack.process import Service
from functions.stack.state import State
from functions.stack.supervisor import Supervisor
state = State(Path({str(folder)!r}))
with Supervisor() as supervisor:
    supervisor.start(Service(name="child", argv=("sleep", "60"), log=state.log("child"),
                             pid_file=state.pid_file("child"), ready=lambda: True))
    print(supervisor.pid("child"), flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        child = int(killed.stdout.readline())
        killed.kill()
    eventually(lambda: not psutil.pid_exists(child))


def test_what_a_killed_stack_left_running_ends_before_the_next_starts(folder: Path) -> None:
    with State(folder) as killed:
        left = Child(shell(killed, "left", f"touch MARK; {PATIENT}"))
        left.wait_ready()
    with State(folder):
        assert left.exit_code() == 0
