"""An accepted picture goes to its collection, and nowhere else."""

import uuid

import pytest
from making import NOW, a_job

from functions.adapters import collections, storage
from functions.adapters.artifacts import Kept
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.job import Job, State

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def job() -> Job:
    return a_job(state=State.AWAITING_REVIEW, seed=2**64 - 1, tags=("v24",))


@pytest.fixture
def picture(job: Job) -> Kept:
    """A picture of the job, in the outputs bucket."""
    key = f"generated/{job.id}/1/{uuid.uuid4().hex}.png"
    storage.write_once(config().outputs_bucket, key, b"a picture", content_type="image/png")
    return Kept(
        id=f"{job.id}-00",
        job_id=job.id,
        index=0,
        object_key=key,
        sha256="0" * 64,
        size_bytes=9,
        content_type="image/png",
        width_px=64,
        height_px=64,
        thumbnail_key=f"{key}.thumbnail.webp",
        decision=None,
        collection_id=None,
        collection_key=None,
        created_at=NOW,
        decided_at=None,
    )


def test_an_accepted_picture_is_copied_with_all_a_gallery_needs_to_know(job: Job, picture: Kept) -> None:
    accepted = collections.hand_over(job, picture, collection_id="herons", reviewer_id="ann", at=NOW)
    assert accepted.key == f"collections/herons/{picture.id}.png"
    assert storage.read(accepted.bucket, accepted.key, limit_bytes=100) == b"a picture"
    assert (accepted.seed, accepted.tags) == ("18446744073709551615", ("generated", "v24"))
    assert accepted.workflow_version == job.workflow_version


def test_a_picture_handed_over_again_lands_on_the_first(job: Job, picture: Kept) -> None:
    twice = [collections.hand_over(job, picture, collection_id="herons", reviewer_id="ann", at=NOW) for _ in range(2)]
    assert twice[0] == twice[1]


@pytest.mark.parametrize("name", [".", "..", "...", "../models", "a/b", "a%2Fb", "Fischreiher & Störche", "x" * 128])
def test_a_collection_of_whatever_name_is_one_folder(job: Job, picture: Kept, name: str) -> None:
    accepted = collections.hand_over(job, picture, collection_id=name, reviewer_id="ann", at=NOW)
    folder, collection, file = accepted.key.split("/")
    assert (folder, file) == ("collections", f"{picture.id}.png")
    assert collection.strip(".")
    assert storage.read(accepted.bucket, accepted.key, limit_bytes=100) == b"a picture"
    assert accepted.collection_id == name


def test_a_picture_that_is_gone_from_the_store_cannot_be_accepted(job: Job, picture: Kept) -> None:
    gone = Kept(**vars(picture) | {"object_key": f"generated/{job.id}/1/gone.png"})
    with pytest.raises(Rejected, match="is gone from the store") as no:
        collections.hand_over(job, gone, collection_id="herons", reviewer_id="ann", at=NOW)
    assert no.value.code == "object_missing"
