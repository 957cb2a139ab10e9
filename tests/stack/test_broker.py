"""The local Broker as a real process, before a neighbour that answers as Knative's subscribers may."""

import base64
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from neighbour import Neighbour, Said, eventually

from functions.stack.process import Service, answers
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
TRIGGERS = """
kind: Trigger
metadata: {name: one}
spec:
  filters: [{prefix: {type: asked}}]
  subscriber: {ref: {name: generator-one}}
  delivery:
    retry: 2
    backoffPolicy: exponential
    backoffDelay: PT1S
    timeout: PT0.2S
    deadLetterSink: {ref: {name: generator-deadletter}}
---
kind: Trigger
metadata: {name: patient}
spec:
  filters: [{exact: {type: patient}}]
  subscriber: {ref: {name: generator-patient}}
---
kind: Trigger
metadata: {name: nobody}
spec:
  subscriber: {ref: {name: generator-absent}}
"""
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/tests", "content-type": "application/json"}


@dataclass(frozen=True)
class Broker:
    url: str
    dead_letters: Path
    supervisor: Supervisor

    def post(self, type_: str, body: bytes = b'{"a":1}', **headers: str) -> int:
        sent = {**EVENT, "ce-type": type_, **headers}
        return requests.post(self.url, data=body, headers=sent, timeout=5).status_code

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(self.url + "/stats", timeout=5).json()
        return found

    def counts(self, type_: str) -> dict[str, int]:
        """What became of the events of a type, once nothing is under way."""
        eventually(lambda: self.stats()["held"] == 0)
        stats = self.stats()
        return {name: stats[name].get(type_, 0) for name in ("accepted", "delivered", "retried", "dead")}

    def dead(self, type_: str) -> list[dict[str, Any]]:
        lines = self.dead_letters.read_text().splitlines() if self.dead_letters.exists() else []
        return [dead for dead in map(json.loads, lines) if dead["type"] == type_]


@pytest.fixture(scope="module")
def broker(make_folder: Callable[[], Path], listening: Neighbour) -> Iterator[Broker]:
    folder = make_folder()
    (folder / "triggers.yaml").write_text(TRIGGERS)
    with State(folder) as state, Supervisor(look_every_s=0.02) as supervisor:
        port, dead_letters = state.port("broker"), folder / "dead.jsonl"
        service = Service(
            name="broker",
            argv=(
                *(sys.executable, "-m", "functions.stack.broker", "--port", str(port)),
                *("--triggers", str(folder / "triggers.yaml"), "--dead-letters", str(dead_letters)),
                *("--service", f"one={listening.url}/one", "--service", f"patient={listening.url}/patient"),
                *("--service", f"deadletter={listening.url}/dead"),
                *("--sink-all", f"{listening.url}/all", "--backoff-scale", "0.01"),
            ),
            cwd=ROOT,
            log=state.log("broker"),
            pid_file=state.pid_file("broker"),
            ready=answers(f"http://127.0.0.1:{port}/healthz"),
        )
        supervisor.start(service)
        yield Broker(f"http://127.0.0.1:{port}", dead_letters, supervisor)


def test_an_event_reaches_who_wants_it_and_the_listener_to_all(broker: Broker, neighbour: Neighbour) -> None:
    assert broker.post("asked.plain", b'{"a" : 1}', **{"ce-subject": "j1"}) == 202
    (heard,) = neighbour.wait("/one")
    assert heard.body == b'{"a" : 1}'
    attributes = {name: value for name, value in heard.headers.items() if name.startswith("ce-")}
    assert attributes.pop("ce-knativearrivaltime")
    assert attributes == {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/tests",
        "ce-type": "asked.plain",
        "ce-subject": "j1",
    }
    assert heard.headers["content-type"] == "application/json"
    assert len(neighbour.wait("/all")) == 1
    assert broker.counts("asked.plain") == {"accepted": 1, "delivered": 2, "retried": 0, "dead": 0}


def test_an_event_that_no_filter_wants_reaches_the_listener_to_all_alone(broker: Broker, neighbour: Neighbour) -> None:
    broker.post("other")
    neighbour.wait("/all")
    assert broker.counts("other")["delivered"] == 1
    assert neighbour.heard["/one"] == []


def test_a_structured_event_arrives_in_binary_mode(broker: Broker, neighbour: Neighbour) -> None:
    event = {"specversion": "1.0", "id": "2", "source": "/s", "type": "asked.structured", "data": {"b": 2}}
    headers = {"content-type": "application/cloudevents+json"}
    assert requests.post(broker.url, json.dumps(event), headers=headers, timeout=5).status_code == 202
    (heard,) = neighbour.wait("/one")
    assert json.loads(heard.body) == {"b": 2}
    assert heard.headers["ce-id"] == "2"


def test_what_is_no_event_is_refused_with_400(broker: Broker) -> None:
    assert broker.post("", b"{}") == 400
    assert requests.post(broker.url, json={"a": 1}, timeout=5).status_code == 400
    assert requests.get(broker.url, timeout=5).status_code == 405


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
def test_an_answer_that_may_change_is_asked_for_again(broker: Broker, neighbour: Neighbour, status: int) -> None:
    neighbour.says["/one"] = [Said(status=status, body=b"later"), Said(status=status)]
    broker.post(f"asked.again.{status}")
    neighbour.wait("/one", count=3)
    assert broker.counts(f"asked.again.{status}") == {"accepted": 1, "delivered": 2, "retried": 2, "dead": 0}


@pytest.mark.parametrize("status", [400, 401, 415, 422, 302])
def test_a_refusal_is_a_dead_letter_at_once(broker: Broker, neighbour: Neighbour, status: int) -> None:
    neighbour.says["/one"] = [Said(status=status, body=b"no")]
    broker.post(f"asked.refused.{status}", **{"ce-subject": "j"})
    (told,) = neighbour.wait("/dead")
    assert broker.counts(f"asked.refused.{status}") == {"accepted": 1, "delivered": 1, "retried": 0, "dead": 1}
    (dead,) = broker.dead(f"asked.refused.{status}")
    assert dead["data"] == {"a": 1}
    assert dead["subject"] == "j"
    assert dead["knativeerrordest"] == f"{neighbour.url}/one"
    assert dead["knativeerrorcode"] == str(status) == told.headers["ce-knativeerrorcode"]
    assert base64.b64decode(dead["knativeerrordata"]) == b"no"


def test_after_the_last_retry_the_event_is_a_dead_letter(broker: Broker, neighbour: Neighbour) -> None:
    neighbour.says["/one"] = [Said(status=503)] * 3
    broker.post("asked.worn")
    neighbour.wait("/dead")
    assert len(neighbour.heard["/one"]) == 3
    assert broker.counts("asked.worn")["retried"] == 2
    assert broker.dead("asked.worn")[0]["knativeerrorcode"] == "503"


def test_a_body_that_is_no_event_counts_as_a_failure(broker: Broker, neighbour: Neighbour) -> None:
    neighbour.says["/one"] = [Said(status=200, body=b"OK", headers={"content-type": "text/html"})]
    broker.post("asked.ok")
    neighbour.wait("/one", count=2)
    assert broker.counts("asked.ok")["retried"] == 1


def test_an_answer_that_is_an_event_goes_back_to_the_broker(broker: Broker, neighbour: Neighbour) -> None:
    headers = {**EVENT, "ce-type": "reply", "ce-id": "r1"}
    neighbour.says["/one"] = [Said(status=200, headers=headers, body=b'{"r":1}')]
    broker.post("asked.reply")
    heard = {one.headers["ce-type"]: one.body for one in neighbour.wait("/all", count=2)}
    assert heard["reply"] == b'{"r":1}'


def test_a_subscriber_that_takes_too_long_is_asked_again(broker: Broker, neighbour: Neighbour) -> None:
    neighbour.says["/one"] = [Said(slow_s=1.0)]
    broker.post("asked.slow")
    neighbour.wait("/one", count=2)
    assert broker.counts("asked.slow") == {"accepted": 1, "delivered": 2, "retried": 1, "dead": 0}


def test_a_busy_subscriber_gets_a_bounded_number_at_once_and_keeps_nobody_waiting(
    broker: Broker, neighbour: Neighbour
) -> None:
    gate = threading.Event()
    neighbour.says["/patient"] = [Said(gate=gate)] * 40
    for _ in range(40):
        broker.post("patient")
    neighbour.wait("/all", count=40)
    neighbour.wait("/patient", count=32)
    eventually(lambda: broker.stats()["held"] == 40)
    assert len(neighbour.heard["/patient"]) == 32
    gate.set()
    assert broker.counts("patient")["delivered"] == 80


def test_a_trigger_without_a_subscriber_is_named_and_hears_nothing(broker: Broker) -> None:
    assert broker.stats()["unbound"] == ["nobody"]


def test_a_killed_broker_comes_back_on_the_same_address(broker: Broker, neighbour: Neighbour) -> None:
    before = broker.supervisor.pid("broker")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: broker.supervisor.pid("broker") != before)
    broker.supervisor.wait_ready("broker")
    assert broker.post("asked.after") == 202
    neighbour.wait("/one")


def test_a_broker_told_to_stop_finishes_what_it_is_delivering(folder: Path, neighbour: Neighbour) -> None:
    neighbour.says["/all"] = [Said(slow_s=0.3)]
    with State(folder) as state, Supervisor() as supervisor:
        port = state.port("broker")
        supervisor.start(
            Service(
                name="broker",
                argv=(
                    *(sys.executable, "-m", "functions.stack.broker", "--port", str(port)),
                    *("--triggers", str(ROOT / "k8s/triggers.yaml"), "--dead-letters", str(folder / "dead")),
                    *("--sink-all", f"{neighbour.url}/all"),
                ),
                cwd=ROOT,
                log=state.log("broker"),
                pid_file=state.pid_file("broker"),
                ready=answers(f"http://127.0.0.1:{port}/healthz"),
            )
        )
        broker = Broker(f"http://127.0.0.1:{port}", folder / "dead", supervisor)
        broker.post("last")
        neighbour.wait("/all")
    assert "dropped" not in (folder / "log" / "broker.log").read_text()
