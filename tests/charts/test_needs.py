"""Each function does its work on what the chart tells it, and on nothing else: the local stack, told so little."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from chart import component, containers, environment, external, of_kind
from live import Stack, bare_environment, eventually

from functions.domain.job import State
from functions.stack.house import HASTE, House
from functions.stack.process import Service

OF_THE_MACHINE = {"PATH", "HOME", "PYTHONPATH", *HASTE}


class Frugal(House):
    """A local stack whose functions are told the variables that they have in a cluster, and no others."""

    def function(self, name: str) -> Service:
        services = of_kind(external(**{"s3.endpointUrl": "http://s3"}), "Service").values()
        [told] = [set(environment(next(containers(one)))) for one in services if component(one) == name]
        service = super().function(name)
        return replace(service, env={k: v for k, v in service.env.items() if k in told | OF_THE_MACHINE})


@pytest.fixture(scope="module")
def frugal() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="visionsuit-generator-") as folder:
        Path(folder).chmod(0o711)  # under root, Postgres runs as another user
        with Frugal(Path(folder), step_ms=5, environ=bare_environment()) as house:
            yield Stack(house)


def test_a_job_goes_all_its_ways_on_what_the_chart_tells_each_function(frugal: Stack) -> None:
    frugal.grant("somebody", 100)
    core_api = frugal.speaking_for("somebody")
    kept = core_api.ask(frugal.request())
    frugal.wait(kept, State.AWAITING_REVIEW)
    core_api.decide(kept, f"{kept}-00", "accept", "herons")
    frugal.wait(kept, State.COMPLETED)

    frugal.behave(step_ms=200)
    called_off = core_api.ask(frugal.request())
    frugal.wait(called_off, State.IN_PROGRESS)
    core_api.cancel(called_off)
    frugal.wait(called_off, State.CANCELLED)

    bearer = {"Authorization": f"Bearer {frugal.sign('somebody')}"}
    for path in (f"jobs/{kept}", f"artifacts/{kept}-00/content", "credits", "options"):
        answer = requests.get(f"{frugal.api_url}/v1/{path}", headers=bearer, timeout=10)
        assert answer.ok, (path, answer.text)
    assert requests.get(f"{frugal.api_url}/readyz", timeout=10).ok


def test_metrics_can_read_all_their_sources(frugal: Stack) -> None:
    def sources() -> bool:
        text = requests.get(f"{frugal.house.url('metrics')}/metrics", timeout=10).text
        up = [line for line in text.splitlines() if line.startswith("generator_up{")]
        return len(up) >= 2 and all(line.endswith(" 1.0") for line in up)

    eventually(sources)


def test_the_dead_letter_sink_can_keep_what_it_hears(frugal: Stack) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "a.b", "ce-source": "/a", "ce-id": "1", "content-type": "text/plain"}
    answer = requests.post(frugal.house.url("deadletter"), data=b"x", headers=headers, timeout=10)
    assert answer.status_code == 204
