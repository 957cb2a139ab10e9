"""JSON in and out of the domain's values: strict, exact, and silent about what was sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import NOW

from functions.adapters import shapes
from functions.domain import event
from functions.domain.errors import Failure, Rejected
from functions.domain.event import Actor, Asked, Event
from functions.domain.request import (
    Achievement,
    CancelRequest,
    JobRequest,
    LoraChoice,
    ReviewDecision,
    WorkflowChoice,
)

LEAST = {"prompt": "a heron", "model": "m"}
ANN = Actor(user_id="ann", role="CURATOR")


def refusal(data: Any, shape: type = JobRequest) -> Rejected:
    with pytest.raises(Rejected) as no:
        shapes.parse(shape, data if isinstance(data, bytes) else json.dumps(data).encode())
    assert no.value.code == "invalid_request"
    return no.value


def test_a_request_needs_a_prompt_and_a_model_and_nothing_else() -> None:
    asked = shapes.parse(JobRequest, json.dumps(LEAST).encode())
    assert asked == JobRequest(prompt="a heron", model="m")
    assert asked.workflow == WorkflowChoice(id="txt2img", version=None)


def test_a_report_of_a_runner_that_told_less_is_read() -> None:
    told: dict[str, Any] = {"job_id": "j", "attempt": 1, "worker": "w", "manifest_key": "m", "prompt_id": "p"}
    told |= {"comfyui_version": "1", "prepare_ms": 1, "render_ms": 2, "upload_ms": 3}
    picture: dict[str, Any] = {"index": 0, "key": "k", "sha256": "0", "size_bytes": 1, "content_type": "image/png"}
    picture |= {"width_px": 1, "height_px": 1, "thumbnail_key": "t", "thumbnail_sha256": "0"}
    report = shapes.parse(event.RenderSucceeded, json.dumps(told | {"artifacts": [picture]}).encode())
    assert (report.cold_start, report.cache_hits, report.vram_total_bytes) == (False, 0, 0)


def test_everything_a_request_may_say_is_read() -> None:
    said = LEAST | {
        "negative_prompt": "fog",
        "workflow": {"id": "txt2img", "version": "1.0.0"},
        "loras": [{"id": "ink", "strength": 1}, {"id": "wash"}],
        "seed": "18446744073709551615",
        "steps": 30,
        "cfg": 7,
        "width": 64,
        "tags": ["v24"],
    }
    asked = shapes.parse(JobRequest, json.dumps(said).encode())
    assert asked.loras == (LoraChoice(id="ink", strength=1.0), LoraChoice(id="wash", strength=1.0))
    assert (asked.seed, asked.cfg, asked.tags) == ("18446744073709551615", 7.0, ("v24",))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"steps": "30"}, "steps"),
        ({"steps": 30.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"cfg": "7"}, "cfg"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"tags": "v24"}, "tags"),
        ({"tags": [7]}, "tags.0"),
        ({"loras": {"id": "ink"}}, "loras"),
        ({"workflow": "txt2img"}, "workflow"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": []}, "seed"),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_turned_into_one(wrong: dict[str, Any], field: str) -> None:
    assert refusal(LEAST | wrong).field == field


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 4001}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"model": ""}, "model"),
        ({"steps": 0}, "steps"),
        ({"steps": 201}, "steps"),
        ({"cfg": -0.1}, "cfg"),
        ({"width": 7}, "width"),
        ({"height": 4097}, "height"),
        ({"images": 9}, "images"),
        ({"boost": -1}, "boost"),
        ({"loras": [{"id": "ink"}, {"id": "ink", "strength": 2.1}]}, "loras.1.strength"),
        ({"loras": [{"id": "ink"}] * 13}, "loras"),
        ({"tags": ["t"] * 9}, "tags"),
        ({"workflow": {"id": ""}}, "workflow.id"),
        ({"workflow": {"id": "a\0b"}}, "workflow.id"),
        ({"workflow": {"version": "a\0b"}}, "workflow.version"),
        ({"sampler": "a\0b"}, "sampler"),
        ({"collection_id": "a\0b"}, "collection_id"),
        ({"tags": ["a\0b"]}, "tags.0"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_the_name_of_its_place(wrong: dict[str, Any], field: str) -> None:
    assert refusal(LEAST | wrong).field == field


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"promt": "a heron"}, "promt"),
        ({"workflow": {"id": "txt2img", "verison": "1"}}, "workflow.verison"),
        ({"loras": [{"id": "ink", "weight": 1}]}, "loras.0.weight"),
    ],
)
def test_a_misspelt_field_is_named_wherever_it_stands(wrong: dict[str, Any], field: str) -> None:
    no = refusal(LEAST | wrong)
    assert no.field == field
    assert no.detail.startswith(f"{field}: ")


def test_a_missing_field_is_named() -> None:
    assert refusal({"model": "m"}).field == "prompt"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"7", b"null", b'"text"', b"[" * 50_000, b'{"a":NaN}'])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    refusal(data)


def test_half_a_surrogate_pair_is_refused() -> None:
    refusal(b'{"prompt": "\\ud800", "model": "m"}')


@given(st.sampled_from(["prompt", "model", "steps", "seed", "loras", "unknown"]), st.integers(1, 3))
def test_what_was_sent_is_not_repeated_in_the_refusal(field: str, kind: int) -> None:
    secret = "a secret heron"
    wrong = {1: secret, 2: [secret], 3: {"x": secret}}[kind]
    data = LEAST | {"prompt": secret, field: wrong}
    try:
        shapes.parse(JobRequest, json.dumps(data).encode())
    except Rejected as no:
        assert secret not in no.detail


def test_the_name_of_an_unknown_field_is_told_short_and_on_one_line() -> None:
    no = refusal(LEAST | {"\n" + "x" * 5000: 1})
    assert len(no.detail) < 200
    assert "\n" not in no.detail


def test_where_a_name_comes_twice_the_signed_one_is_the_one_that_counts() -> None:
    data = b'{"prompt": "first", "prompt": "last", "model": "m"}'
    assert shapes.parse(JobRequest, data).prompt == json.loads(shapes.canonical(data))["prompt"]


PICTURE = event.Artifact(
    index=0,
    key="generated/j/1/00-abc.png",
    sha256="0" * 64,
    size_bytes=7,
    content_type="image/png",
    width_px=64,
    height_px=64,
    thumbnail_key="generated/j/1/00-abc.thumbnail.webp",
    thumbnail_sha256="1" * 64,
)
MOVED: dict[str, Any] = {"job_id": "j", "attempt": 1, "user_id": "u", "previous": "queued", "at": NOW}
EXAMPLES: list[Event] = [
    event.JobRequested(job_id="j", actor=ANN, asked=JobRequest(prompt="a heron", model="m", seed=str(2**64 - 1))),
    event.CancelRequested(job_id="j", actor=ANN, asked=CancelRequest(reason="tired")),
    event.ReviewDecided(job_id="j", actor=ANN, asked=ReviewDecision(artifact_id="j-00", decision="discard")),
    event.CreditsEarned(job_id="", actor=ANN, asked=Achievement(achievement="curated-100", credits=20)),
    event.GrantApproved(job_id="", grant_id="g"),
    event.JobSubmitted(job_id="j", user_id="u", credits=3),
    event.JobDebited(job_id="j", user_id="u", credits=3),
    event.RenderSucceeded(
        job_id="j",
        attempt=1,
        worker="w",
        artifacts=(PICTURE,),
        manifest_key="generated/j/1/manifest.json",
        prompt_id="p",
        comfyui_version="0.3",
        prepare_ms=1,
        render_ms=2,
        upload_ms=3,
    ),
    event.RenderFailed(job_id="j", attempt=2, worker="w", kind=Failure.TRANSIENT, code="c", detail="d"),
    event.JobRejected(job_id="j", code="c", detail="d", field="f"),
    event.JobQueued(**MOVED, state="queued", worker="w", cause="given_back"),
    event.JobDispatching(**MOVED, state="dispatching", worker="w"),
    event.JobInProgress(**MOVED, state="in_progress", worker="w"),
    event.JobAwaitingReview(**MOVED, state="awaiting_review", artifacts=(PICTURE,)),
    event.JobCompleted(**MOVED, state="completed"),
    event.JobFailed(**MOVED, state="failed", detail="no try is left"),
    event.JobCancelled(**MOVED, state="cancelled"),
    event.ArtifactAccepted(
        job_id="j",
        artifact_id="j-00",
        user_id="u",
        reviewer_id="u",
        collection_id="herons",
        bucket="b",
        key="k",
        sha256="0" * 64,
        size_bytes=7,
        content_type="image/png",
        width_px=64,
        height_px=64,
        thumbnails={"384": "k.thumbnail.webp"},
        workflow_id="txt2img",
        workflow_version="1.0.0",
        workflow_sha256="0" * 64,
        model="m",
        loras=({"id": "ink", "strength": 0.5},),
        seed=str(2**64 - 1),
        parameters={"steps": 20},
        tags=("generated",),
        rendered_at=NOW,
        accepted_at=NOW,
    ),
    event.ArtifactDiscarded(job_id="j", artifact_id="j-00", user_id="u", reviewer_id="u", reason="", purged_after=NOW),
    event.ArtifactRestored(
        job_id="j", artifact_id="j-00", decisions=2, user_id="u", reviewer_id="u", reason="a second look"
    ),
    event.ArtifactPurged(job_id="j", artifact_id="j-00", decisions=1, user_id="u", why="discarded"),
    event.CreditsTransferred(
        job_id="j", transfer_id="j:debit", debit_account="user:u", credit_account="revenue", amount=3, reason="debit"
    ),
]


def test_there_is_an_example_of_every_event() -> None:
    assert {type(one) for one in EXAMPLES} == set(event.BY_TYPE.values())


@pytest.mark.parametrize("said", EXAMPLES, ids=lambda said: said.name)
def test_an_event_that_was_written_and_read_is_the_same_event(said: Event) -> None:
    actor = said.actor if isinstance(said, Asked) else None
    assert shapes.event(said.type, subject=said.job_id, data=shapes.dump(said), actor=actor) == said


@pytest.mark.parametrize("said", [one for one in EXAMPLES if isinstance(one, Asked)], ids=lambda said: said.name)
def test_a_wish_that_nobody_signed_for_is_no_event(said: Event) -> None:
    with pytest.raises(Rejected) as no:
        shapes.event(said.type, subject="j", data=shapes.dump(said), actor=None)
    assert no.value.code == "unsigned"


@pytest.mark.parametrize("type_", ["", "job.requested", "visionsuit.generator.job.requested.v2", "com.example.other"])
def test_an_event_of_a_type_nobody_here_hears_is_refused(type_: str) -> None:
    with pytest.raises(Rejected) as no:
        shapes.event(type_, subject="j", data=b"{}", actor=ANN)
    assert no.value.code == "unknown_event"
