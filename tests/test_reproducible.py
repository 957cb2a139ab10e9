"""The same request gives the same graph and the same picture, whoever asks or renders; the picture says how."""

import io
import json
import uuid

import requests
from live import Stack
from PIL import Image

from functions.adapters import artifacts, postgres, storage
from functions.adapters.artifacts import Kept
from functions.config import config
from functions.domain.job import Job, State

PROMPT = '夜明けの鷺 🪶, "quoted"\nsecond line {} [] <lora:none:1>'


def paint(stack: Stack, user: str, **fields: object) -> tuple[Job, Kept, bytes]:
    """A job that was painted, its picture on record and the picture itself."""
    job = stack.wait(stack.speaking_for(user).ask(stack.request(prompt=PROMPT, **fields)), State.AWAITING_REVIEW)
    with postgres.transaction() as tx:
        [picture] = artifacts.of_jobs(tx, [job.id])
    return job, picture, b"".join(storage.stream(config().outputs_bucket, picture.object_key))


def test_the_same_request_gives_the_same_bytes_to_anybody(stack: Stack, user: str) -> None:
    other = f"u-{uuid.uuid4().hex[:8]}"
    stack.grant(other, 10)
    (first, picture, _), (again, same, _) = (paint(stack, who, seed="18446744073709551615") for who in (user, other))
    assert first.made == again.made
    assert picture.sha256 == same.sha256
    _, different, _ = paint(stack, user, seed="18446744073709551614")
    assert different.sha256 != picture.sha256


def test_a_picture_tells_how_it_was_made_and_nothing_of_who_and_where(stack: Stack, user: str) -> None:
    job, _, data = paint(stack, user, seed="7")
    with Image.open(io.BytesIO(data)) as image:
        texts = dict(image.text)  # type: ignore[attr-defined]
    assert texts["parameters"].startswith(f"{PROMPT}\nSteps: 4, Sampler: ")
    assert "Seed: 7, Size: 64x64" in texts["parameters"]
    graph = json.loads(texts["prompt"])
    assert any(node["inputs"].get("text") == PROMPT for node in graph.values())
    for private in (job.id, user, str(job.worker)):
        assert private not in json.dumps(texts)


def test_a_jobs_story_names_the_files_and_the_graph_it_was_made_with(stack: Stack, user: str) -> None:
    job, _, _ = paint(stack, user)
    answer = requests.get(
        f"{stack.api_url}/v1/jobs/{job.id}", headers={"Authorization": f"Bearer {stack.sign(user)}"}, timeout=10
    )
    made = answer.json()["made"]
    assert made["comfyui_version"]
    assert len(made["graph_sha256"]) == 64
    assert [file["name"] for file in made["files"]] == [job.model]
