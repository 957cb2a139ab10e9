"""Pictures in, a collection out: what a curator does after a render, told through the REST API and the store."""

import io

import requests
from live import Stack
from PIL import Image

from functions.adapters import artifacts, outbox, postgres, storage
from functions.config import config
from functions.domain.job import State


def test_pictures_go_in_and_a_collection_comes_out(stack: Stack, user: str) -> None:
    curator = stack.speaking_for(user)
    job_id = curator.ask(stack.request(images=3, width=512, height=256, tags=["default"]))
    stack.wait(job_id, State.AWAITING_REVIEW)

    # They wait in the curator's queue, oldest first, with all that went into them.
    queue = curator.rest("GET", f"/v1/reviews?job_id={job_id}")["pictures"]
    assert [one["index"] for one in queue] == [0, 1, 2]
    assert {(one["prompt"], one["model"]) for one in queue} == {("a heron at dawn", stack.model)}
    first, second, third = (one["id"] for one in queue)

    # One is kept, two are turned down, in one call; each has an answer of its own.
    decisions = [
        {"artifact_id": first, "decision": "accept", "collection_id": "herons"},
        {"artifact_id": second, "decision": "discard", "reason": "blurred"},
        {"artifact_id": third, "decision": "discard"},
    ]
    results = curator.rest("POST", "/v1/reviews", {"decisions": decisions})["results"]
    assert [one["status"] for one in results] == ["accepted", "discarded", "discarded"]
    assert stack.wait(job_id, State.COMPLETED)
    assert curator.rest("GET", f"/v1/reviews?job_id={job_id}")["pictures"] == []

    # A discarded one is out of sight, but not gone yet: it is taken back, and kept after all. The job stays done.
    discarded = curator.rest("GET", f"/v1/reviews?job_id={job_id}&standing=discarded")["pictures"]
    assert [one["id"] for one in discarded] == [second, third]
    kept = [
        {"artifact_id": second, "decision": "restore"},
        {"artifact_id": second, "decision": "accept", "collection_id": "herons"},
    ]
    results = curator.rest("POST", "/v1/reviews", {"decisions": kept})["results"]
    assert [one["status"] for one in results] == ["restored", "accepted"]
    assert stack.wait(job_id, State.COMPLETED)

    # The collection has both, as they were rendered, and thumbnails of them.
    with postgres.transaction() as tx:
        pictures = {one.id: one for one in artifacts.of_jobs(tx, [job_id])}
        told = [telling.type.removeprefix("visionsuit.generator.") for telling in outbox.story(tx, job_id)]
    for id in (first, second):
        picture = pictures[id]
        assert picture.collection_key == f"collections/herons/{id}.png"
        assert storage.sha256(config().collections_bucket, picture.collection_key) == picture.sha256
        small = f"collections/herons/{id}.thumbnail-192.webp"
        stored = b"".join(storage.stream(config().collections_bucket, small))
        assert Image.open(io.BytesIO(stored)).size == (192, 96)
    assert pictures[third].collection_key is None

    # The platform was told each step once, and anyone who may ask is told who did what.
    assert sorted(one for one in told if one.startswith("artifact.")) == [
        "artifact.accepted.v1",
        "artifact.accepted.v1",
        "artifact.discarded.v1",
        "artifact.discarded.v1",
        "artifact.restored.v1",
    ]
    history = curator.rest("GET", f"/v1/artifacts/{second}/history")["done"]
    assert [(one["decision"], one["reviewer_id"], one["reason"]) for one in history] == [
        ("discard", user, "blurred"),
        ("restore", user, ""),
        ("accept", user, ""),
    ]
    mine = {"Authorization": f"Bearer {curator.token}"}
    held = requests.get(f"{stack.api_url}/v1/artifacts/{first}/content", headers=mine, timeout=30)
    assert Image.open(io.BytesIO(held.content)).size == (512, 256)
