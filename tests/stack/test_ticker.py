import threading
from pathlib import Path

from neighbour import Neighbour, Said, eventually

from functions.stack import ticker
from functions.stack.ticker import Ticker

SWEEP = ticker.read(Path(__file__).parents[2] / "k8s/sweep.yaml")


def poll_until(clock: Ticker, neighbour: Neighbour, *, count: int) -> None:
    def heard() -> bool:
        clock.poll()
        return len(neighbour.heard["/sweep"]) >= count

    eventually(heard)


def test_a_tick_is_the_event_a_ping_source_sends(neighbour: Neighbour) -> None:
    poll_until(Ticker(SWEEP, f"{neighbour.url}/sweep", every_s=0.02), neighbour, count=2)
    first, second, *_ = neighbour.heard["/sweep"]
    assert first.body == b'{"task": "sweep"}'
    assert first.headers["content-type"] == "application/json"
    assert first.headers["ce-type"] == "dev.knative.sources.ping"
    assert first.headers["ce-source"].endswith("/pingsources/generator-sweep")
    assert first.headers["ce-id"] != second.headers["ce-id"]


def test_a_sweep_that_fails_hears_the_next_tick_all_the_same(neighbour: Neighbour) -> None:
    neighbour.says["/sweep"] = [Said(status=503), Said(status=503)]
    poll_until(Ticker(SWEEP, f"{neighbour.url}/sweep", every_s=0.02), neighbour, count=3)


def test_a_sweep_that_is_still_at_work_is_not_woken_again(neighbour: Neighbour) -> None:
    gate = threading.Event()
    neighbour.says["/sweep"] = [Said(gate=gate)]
    clock = Ticker(SWEEP, f"{neighbour.url}/sweep", every_s=0.0)
    poll_until(clock, neighbour, count=1)
    for _ in range(10):
        clock.poll()
    assert len(neighbour.heard["/sweep"]) == 1
    gate.set()
    poll_until(clock, neighbour, count=2)
