"""The door of the functions: what each kind of event is answered, and that a refusal leaves nothing but its refusal.

Events are posted straight to the functions of the running stack, as its Broker would.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from live import Stack, eventually
from making import a_job

from functions.adapters import broker, identity, jobs, outbox, postgres, shapes
from functions.domain import event
from functions.domain.event import TYPE_PREFIX, Actor, Event
from functions.domain.job import Job, State
from functions.stack.house import ROOT, SERVE
from functions.stack.platform import ISSUER

#: In every prompt of this file, so that it can be looked for where it must not be.
SECRET = f"heron{uuid.uuid4().hex}"
SOURCE = "/visionsuit/core-api"
REQUESTED = f"{TYPE_PREFIX}job.requested.v1"


class Door:
    """One curator's way to the functions; what is not given is new and valid."""

    def __init__(self, stack: Stack, user: str) -> None:
        self.stack, self.user = stack, user
        self.secret = stack.house.env["SERVICE_SECRETS"].split(",")[0]

    def sign(self, data: bytes, *, role: str = "CURATOR", jti: str | None = None, **how: Any) -> str:
        asker = Actor(user_id=self.user, role=role)
        return identity.sign(
            asker, **{"secret": self.secret, "issuer": ISSUER, "data": data, "jti": jti or uuid.uuid4().hex} | how
        )

    def headers(self, type_: str, subject: str, id: str | None, source: str) -> dict[str, str]:
        letter = broker.Envelope(
            id=id or uuid.uuid4().hex, source=source, type=type_, subject=subject, time=datetime.now(UTC), data=b""
        )
        return broker.headers(letter)

    def post(
        self,
        data: bytes | dict[str, Any],
        *,
        subject: str,
        function: str = "submit",
        type_: str = REQUESTED,
        id: str | None = None,
        source: str = SOURCE,
        token: str | None = "sign it",
        more: dict[str, str] | None = None,
    ) -> requests.Response:
        """Post an event in binary mode."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        if token == "sign it":
            token = self.sign(body)
        signed = {"ce-authtoken": token} if token else {}
        headers = self.headers(type_, subject, id, source) | signed | (more or {})
        return requests.post(self.stack.house.url(function), data=body, headers=headers, timeout=30)

    def hand(self, function: str, said: Event, *, source: str) -> requests.Response:
        """Post one of our own events."""
        return self.post(
            shapes.dump(said),
            subject=said.job_id,
            function=function,
            type_=said.type,
            id=said.id,
            source=source,
            token=None,
        )

    def ask(self, **fields: Any) -> dict[str, Any]:
        return self.stack.request(prompt=f"a {SECRET} at dawn", **fields)

    def refused(self, job_id: str) -> str:
        """Why this request never became a job, once it is sure that nothing but the refusal is left of it."""
        assert self.stack.job(job_id) is None
        assert self.stack.balance(self.user) == 100
        with postgres.transaction() as tx:
            told = outbox.story(tx, job_id)
            refusal = outbox.refusal(tx, job_id)
        assert [telling.type for telling in told] == [f"{TYPE_PREFIX}job.rejected.v1"]
        assert refusal
        assert SECRET not in refusal.detail
        return refusal.code


@pytest.fixture
def door(stack: Stack, user: str) -> Door:
    return Door(stack, user)


def silent(answer: requests.Response, status: int) -> bool:
    """Whether this is the status, and nothing else: a Broker takes a body that is no CloudEvent for a failure."""
    assert answer.status_code == status
    assert answer.content == b""
    return True


def told(job_id: str) -> list[str]:
    with postgres.transaction() as tx:
        return [t.type.removeprefix(TYPE_PREFIX) for t in outbox.story(tx, job_id)]


def test_an_event_and_its_redelivery_are_answered_204_and_count_once(door: Door, job_id: str) -> None:
    body = json.dumps(door.ask()).encode()
    token = door.sign(body)
    for _ in range(3):
        assert silent(door.post(body, subject=job_id, id=f"{job_id}:asked", token=token), 204)
    job = door.stack.wait(job_id, State.AWAITING_REVIEW)
    assert door.stack.balance(door.user) == 100 - job.credits
    assert told(job_id).count("job.submitted.v1") == 1


def test_one_of_our_own_events_needs_no_signature_and_is_heard_once(door: Door) -> None:
    job = kept(door.user)
    for _ in range(2):
        said = event.JobSubmitted(job_id=job.id, user_id=job.user_id, credits=job.credits)
        assert silent(door.hand("debit", said, source="/functions/submit"), 204)
    assert door.stack.balance(door.user) == 100 - job.credits
    eventually(lambda: State.QUEUED in [state for state, _ in door.stack.moves(job.id)])
    call_off(door, job)


def kept(user: str) -> Job:
    """A submitted job of a pool that no runner serves."""
    job = a_job(user_id=user, prompt=f"a {SECRET}")
    with postgres.transaction() as tx:
        jobs.add(tx, job)
    return job


def call_off(door: Door, job: Job) -> None:
    """So that sweep does not go on putting it into its queue."""
    type_ = f"{TYPE_PREFIX}job.cancel_requested.v1"
    assert silent(door.post({}, subject=job.id, function="cancel", type_=type_), 204)
    found = door.stack.job(job.id)
    assert found
    assert found.state is State.CANCELLED


def test_an_unsigned_request_is_refused(door: Door, job_id: str) -> None:
    assert silent(door.post(door.ask(), subject=job_id, token=None), 422)
    assert door.refused(job_id) == "unsigned"


def test_an_altered_request_is_refused(door: Door, job_id: str) -> None:
    token = door.sign(json.dumps(door.ask(steps=4)).encode())
    assert silent(door.post(door.ask(steps=5), subject=job_id, token=token), 422)
    assert door.refused(job_id) == "altered"


def test_an_expired_request_is_refused(door: Door, job_id: str) -> None:
    body = json.dumps(door.ask()).encode()
    token = door.sign(body, lifetime=timedelta(seconds=-60))
    assert silent(door.post(body, subject=job_id, token=token), 422)
    assert door.refused(job_id) == "expired"


@pytest.mark.parametrize("how", [{"issuer": "somebody-else"}, {"secret": "a-strangers-secret-of-32-letters"}])
def test_a_request_that_the_platform_did_not_sign_is_refused(door: Door, job_id: str, how: dict[str, str]) -> None:
    body = json.dumps(door.ask()).encode()
    assert silent(door.post(body, subject=job_id, token=door.sign(body, **how)), 422)
    assert door.refused(job_id) == "token_invalid"


def test_a_signature_is_good_for_one_event_only(door: Door, job_id: str) -> None:
    body = json.dumps(door.ask()).encode()
    token = door.sign(body)
    first, second = f"{job_id}-1", f"{job_id}-2"
    assert silent(door.post(body, subject=first, token=token), 204)
    job = door.stack.wait(first, State.AWAITING_REVIEW)
    assert silent(door.post(body, subject=second, token=token), 422)
    assert door.stack.job(second) is None
    assert door.stack.balance(door.user) == 100 - job.credits
    assert told(second) == ["job.rejected.v1"]


def test_who_did_not_sign_cannot_use_up_the_id_of_an_event_that_somebody_will_sign(door: Door, job_id: str) -> None:
    assert silent(door.post(door.ask(), subject=job_id, id=f"{job_id}:asked", token=None), 422)
    assert silent(door.post(door.ask(), subject=job_id, id=f"{job_id}:asked"), 204)
    assert door.stack.job(job_id)


def test_a_forged_request_does_not_tell_the_world_that_a_living_job_was_refused(door: Door, job_id: str) -> None:
    assert silent(door.post(door.ask(), subject=job_id), 204)
    assert silent(door.post(door.ask(), subject=job_id, token=None), 422)
    assert "job.rejected.v1" not in told(job_id)


def test_a_request_for_the_id_of_anothers_job_changes_nothing(door: Door, job_id: str, stack: Stack) -> None:
    stack.grant("eve", 100)
    assert silent(door.post(door.ask(), subject=job_id), 204)
    assert silent(Door(stack, "eve").post(door.ask(steps=5), subject=job_id), 422)
    job = stack.job(job_id)
    assert job
    assert job.user_id == door.user
    assert "job.rejected.v1" not in told(job_id)


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"promt": "x"}, "invalid_request"),
        ({"steps": "20"}, "invalid_request"),
        ({"width": 7}, "invalid_request"),
        ({"width": 65}, "parameter_out_of_range"),
        ({"seed": 2**53 + 2}, "seed_inexact"),
        ({"seed": "99999999999999999999"}, "seed_out_of_range"),
        ({"workflow": {"id": "no-such"}}, "unknown_workflow"),
        ({"workflow": {"id": "txt2img", "version": "9.9.9"}}, "unknown_workflow"),
        ({"model": "no-such"}, "unknown_model"),
        ({"loras": [{"id": "no-such"}]}, "unknown_lora"),
        ({"tags": ["no-such-pool"]}, "no_such_pool"),
        ({"boost": 1000}, "insufficient_credits"),
        ({"collection_id": "a\0b"}, "invalid_request"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_once_and_costs_nothing(
    door: Door, job_id: str, wish: dict[str, Any], code: str
) -> None:
    body = json.dumps(door.ask(**wish)).encode()
    token = door.sign(body)
    assert silent(door.post(body, subject=job_id, id=f"{job_id}:asked", token=token), 422)
    assert door.post(body, subject=job_id, id=f"{job_id}:asked", token=token).status_code in (204, 422)
    assert door.refused(job_id) == code


def test_a_role_that_may_not_ask_is_refused(door: Door, job_id: str) -> None:
    body = json.dumps(door.ask()).encode()
    assert silent(door.post(body, subject=job_id, token=door.sign(body, role="VISITOR")), 422)
    assert door.refused(job_id) == "role_not_allowed"


def test_a_refusal_stands_though_the_credits_come_later(door: Door, job_id: str) -> None:
    body = json.dumps(door.ask(boost=150)).encode()
    token = door.sign(body)
    assert silent(door.post(body, subject=job_id, id=f"{job_id}:asked", token=token), 422)
    door.stack.grant(door.user, 900)
    door.post(body, subject=job_id, id=f"{job_id}:asked", token=token)
    assert door.stack.job(job_id) is None
    assert told(job_id) == ["job.rejected.v1"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"prompt": ', b"\xff", b"NaN", b"[" * 100_000])
def test_broken_json_is_refused_in_binary_mode(door: Door, job_id: str, body: bytes) -> None:
    assert silent(door.post(body, subject=job_id, token=door.sign(b"{}")), 422)
    assert door.refused(job_id) == "invalid_request"


@pytest.mark.parametrize("subject", ["", "../etc", "a b", "x" * 65, "a%00b", "ü", "-a"])
def test_a_subject_that_is_no_job_id_is_refused_and_nothing_is_told_of_it(door: Door, subject: str) -> None:
    before = told(subject.replace("%00", ""))  # what belongs to no job has no subject
    assert silent(door.post(door.ask(), subject=subject), 422)
    assert told(subject.replace("%00", "")) == before
    assert door.stack.balance(door.user) == 100


@pytest.mark.parametrize(
    ("function", "type_"),
    [
        ("submit", "com.example.other"),
        ("submit", f"{TYPE_PREFIX}job.requested.v2"),
        ("submit", f"{TYPE_PREFIX}job.debited.v1"),
        ("debit", REQUESTED),
        ("debit", f"{TYPE_PREFIX}job.debited.v1"),
        ("dispatch", f"{TYPE_PREFIX}job.queued.v1"),
    ],
)
def test_an_event_that_this_function_does_not_hear_is_refused(
    door: Door, job_id: str, function: str, type_: str
) -> None:
    assert silent(door.post(door.ask(), subject=job_id, function=function, type_=type_), 422)
    assert told(job_id) == []
    assert door.stack.job(job_id) is None


@pytest.mark.parametrize("where", ["id", "source"])
@pytest.mark.parametrize("value", ["a%00b", "x" * 600])
def test_an_event_whose_id_or_source_cannot_be_kept_is_refused(door: Door, job_id: str, where: str, value: str) -> None:
    assert silent(door.post(door.ask(), subject=job_id, more={f"ce-{where}": value}), 422)
    assert door.stack.job(job_id) is None


def test_an_event_larger_than_any_of_ours_is_refused_before_it_is_read(door: Door, job_id: str) -> None:
    body = json.dumps(door.ask(negative_prompt="x" * 1_000_000)).encode()
    assert silent(door.post(body, subject=job_id, token="x"), 422)
    assert door.stack.job(job_id) is None


def test_a_cancel_or_a_review_of_something_that_is_not_the_askers_is_refused(door: Door, stack: Stack) -> None:
    stack.grant("eve", 1)
    job, eve = kept(door.user), Door(stack, "eve")
    cancel, review = f"{TYPE_PREFIX}job.cancel_requested.v1", f"{TYPE_PREFIX}review.decided.v1"
    assert silent(eve.post({}, subject=job.id, function="cancel", type_=cancel), 422)
    assert silent(door.post({}, subject="no-such-job", function="cancel", type_=cancel), 422)
    decision = {"artifact_id": f"{job.id}-00", "decision": "discard"}
    assert silent(eve.post(decision, subject=job.id, function="review", type_=review), 422)
    found = stack.job(job.id)
    assert found
    assert found.state is State.SUBMITTED
    call_off(door, job)


def structured(door: Door, job_id: str, data: Any, token: str, **more: Any) -> requests.Response:
    """The same event with its attributes in the body."""
    headers = door.headers(REQUESTED, job_id, None, SOURCE)
    envelope = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    envelope |= {"datacontenttype": "application/json", "authtoken": token, "data": data} | more
    return requests.post(
        door.stack.house.url("submit"),
        data=json.dumps(envelope),
        headers={"content-type": "application/cloudevents+json; charset=utf-8"},
        timeout=30,
    )


def test_an_event_in_structured_mode_is_the_same_event(door: Door, job_id: str) -> None:
    asked = door.ask(cfg=7.0, negative_prompt="Nebel über dem See")
    token = door.sign(json.dumps(asked, indent=2, ensure_ascii=False).encode())
    assert silent(structured(door, job_id, asked, token), 204)
    job = door.stack.job(job_id)
    assert job
    assert job.negative_prompt == "Nebel über dem See"


def test_an_altered_event_in_structured_mode_is_refused(door: Door, job_id: str) -> None:
    token = door.sign(json.dumps(door.ask()).encode())
    assert silent(structured(door, job_id, door.ask(steps=9), token), 422)
    assert door.refused(job_id) == "altered"


@pytest.mark.parametrize("data", [None, "a text", 7, [], "{"])
def test_data_in_structured_mode_that_is_no_object_is_refused(door: Door, job_id: str, data: Any) -> None:
    assert silent(structured(door, job_id, data, door.sign(b"{}")), 422)
    assert door.stack.job(job_id) is None


def test_attributes_and_headers_that_nobody_knows_are_ignored(door: Door, job_id: str) -> None:
    more = {"ce-knativebrokerttl": "255", "ce-traceparent": "00-abc", "ce-future": "x", "kn-namespace": "default"}
    assert silent(door.post(door.ask(), subject=job_id, more=more), 204)
    assert door.stack.job(job_id)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"content-type": "application/json"}, b'{"prompt": "a heron"}'),
        ({"content-type": "text/plain"}, b"hello"),
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"content-type": "application/cloudevents+json"}, b"[]"),
        ({"content-type": "application/cloudevents+json"}, b"[" * 100_000),
        ({"content-type": "application/cloudevents+json"}, b'{"specversion": "1.0"}'),
        ({"content-type": "application/cloudevents+json"}, b"\xff\xfe"),
        ({"ce-specversion": "1.0", "ce-id": "x"}, b"{}"),
        ({"ce-specversion": "9.9", "ce-id": "x", "ce-source": "/x", "ce-type": REQUESTED}, b"{}"),
    ],
)
def test_what_is_no_cloudevent_is_answered_400(stack: Stack, headers: dict[str, str], body: bytes) -> None:
    assert silent(requests.post(stack.house.url("submit"), data=body, headers=headers, timeout=30), 400)


@pytest.mark.parametrize("function", ["submit", "debit", "sweep"])
def test_a_probe_is_answered_200_any_other_get_404_and_any_other_method_405(stack: Stack, function: str) -> None:
    url = stack.house.url(function)
    assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
    assert requests.get(f"{url}/readyz", timeout=5).status_code == 200
    assert requests.get(f"{url}/", timeout=5).status_code == 404
    for method in ("PUT", "DELETE", "PATCH"):
        assert requests.request(method, url, timeout=5).status_code == 405


def test_the_clocks_tick_is_answered_204(stack: Stack) -> None:
    assert silent(requests.post(stack.house.url("sweep"), data=b'{"task": "sweep"}', timeout=30), 204)


def test_an_accident_is_answered_500_without_a_word_of_what_it_was(door: Door) -> None:
    job = kept(door.user)
    with postgres.transaction() as tx:
        for state in (State.DEBITED, State.QUEUED, State.DISPATCHING, State.IN_PROGRESS):
            job = replace(job.to(state), worker="w" if state in (State.DISPATCHING, State.IN_PROGRESS) else None)
            jobs.save(tx, job)
    picture = event.Artifact(
        index=0,
        key=f"generated/{job.id}/1/{SECRET}.png",
        sha256="not a digest",
        size_bytes=1,
        content_type="image/png",
        width_px=1,
        height_px=1,
        thumbnail_key="k",
        thumbnail_sha256="0" * 64,
    )
    said = event.RenderSucceeded(
        job_id=job.id,
        attempt=1,
        worker="w",
        artifacts=(picture,),
        manifest_key="m",
        prompt_id="p",
        comfyui_version="v",
        prepare_ms=1,
        render_ms=1,
        upload_ms=1,
    )
    assert silent(door.hand("complete", said, source="/functions/render"), 500)
    found = door.stack.job(job.id)
    assert found
    assert found.state is State.IN_PROGRESS
    with postgres.transaction() as tx:
        jobs.save(tx, found.to(State.FAILED))


@contextlib.contextmanager
def function(name: str, env: dict[str, str], log: Path) -> Iterator[str]:
    """A function of the test's own, and where it is reached."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).parent / "functions-framework"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, "--asgi", "--host", "127.0.0.1", "--port", str(port)],
            env=env | {"FUNCTION_TARGET": name, "FUNCTION_SOURCE": str(SERVE)},
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{url}/healthz", timeout=1).ok
        return False

    try:
        eventually(up)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_without_postgres_every_event_is_answered_503_to_be_tried_again(door: Door, tmp_path: Path) -> None:
    env = door.stack.house.env | {"DATABASE_URL": "postgresql+pg8000://nobody:nothing@127.0.0.1:1/nowhere"}
    said = event.JobSubmitted(job_id="j", user_id="u", credits=1)
    headers = door.headers(said.type, "j", said.id, "/functions/submit")
    with function("debit", dict(env), tmp_path / "log") as url:
        assert silent(requests.post(url, data=shapes.dump(said), headers=headers, timeout=30), 503)
    log = (tmp_path / "log").read_text()
    assert "Postgres cannot be reached" in log
    assert "Traceback" not in log
    assert "nothing" not in log, "a password"


def test_no_word_of_a_prompt_is_in_any_log(door: Door, job_id: str) -> None:
    door.post(door.ask(), subject=job_id)
    door.stack.wait(job_id, State.AWAITING_REVIEW)
    logs = sorted(door.stack.house.state.folder("log").rglob("*.log*"))
    assert len(logs) > 8
    assert [log.name for log in logs if SECRET in log.read_text(errors="replace")] == []
