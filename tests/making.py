"""Values to test with: whole, valid and each of its own, with only the fields that a test is about spelt out."""

import uuid
from datetime import UTC, datetime
from typing import Any

from functions.domain.event import Artifact, RenderSucceeded
from functions.domain.job import Job, State

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def a_job(**fields: Any) -> Job:
    """A job that has just been submitted, in a pool that no runner serves, so that nobody but the test moves it."""
    plain: dict[str, Any] = {
        "id": f"job-{uuid.uuid4().hex[:12]}",
        "user_id": "u-1",
        "role": "CURATOR",
        "pool": "nobody-serves-this",
        "state": State.SUBMITTED,
        "prompt": "a heron at dawn",
        "negative_prompt": "",
        "workflow_id": "txt2img",
        "workflow_version": "1.0.0",
        "workflow_sha256": "0" * 64,
        "model": "meadow-sd15.safetensors",
        "seed": 7,
        "parameters": {"width": 64, "height": 64, "steps": 4},
        "images": 1,
        "credits": 3,
        "due_ms": 1_772_366_400_000,
        "submitted_at": NOW,
        "changed_at": NOW,
    }
    return Job(**plain | fields)


def a_report(job_id: str, *, attempt: int = 1, worker: str = "w-1", **fields: Any) -> RenderSucceeded:
    """What a runner reports of a render that left one picture, which nobody has stored."""
    picture = Artifact(
        index=0,
        key=f"generated/{job_id}/{attempt}/{worker}",
        sha256="a" * 64,
        size_bytes=1,
        content_type="image/png",
        width_px=64,
        height_px=64,
        thumbnail_key="t",
        thumbnail_sha256="a" * 64,
    )
    plain: dict[str, Any] = {
        "artifacts": (picture,),
        "manifest_key": "m",
        "prompt_id": "p",
        "comfyui_version": "1",
        "prepare_ms": 1,
        "render_ms": 2,
        "upload_ms": 3,
    }
    return RenderSucceeded(job_id=job_id, attempt=attempt, worker=worker, **plain | fields)
