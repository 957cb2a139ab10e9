"""Collections: accepted pictures are copied to where the platform's galleries keep theirs."""

from urllib.parse import quote

from functions.adapters import storage
from functions.adapters.artifacts import Kept
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import ArtifactAccepted
from functions.domain.job import Job

TAG = "generated"


def hand_over(job: Job, picture: Kept, *, collection_id: str, reviewer_id: str) -> ArtifactAccepted:
    """Copy the picture into the collection, and all a gallery needs to know of it.

    The key is computed from collection and picture, so a second copy after a crash lands on the first. Rejected when
    there is nothing to copy.
    """
    key = f"collections/{_folder(collection_id)}/{picture.id}{_suffix(picture)}"
    try:
        storage.copy(
            (config().outputs_bucket, picture.object_key),
            (config().collections_bucket, key),
            content_type=picture.content_type,
        )
    except storage.Missing as missing:
        raise Rejected("object_missing", f"{missing} is gone from the store, or its collections bucket is") from missing
    return ArtifactAccepted(
        job_id=job.id,
        artifact_id=picture.id,
        user_id=job.user_id,
        reviewer_id=reviewer_id,
        collection_id=collection_id,
        bucket=config().collections_bucket,
        key=key,
        sha256=picture.sha256,
        content_type=picture.content_type,
        width_px=picture.width_px,
        height_px=picture.height_px,
        workflow_id=job.workflow_id,
        workflow_version=job.workflow_version,
        model=job.model,
        seed=str(job.seed),
        tags=(TAG, *job.tags),
    )


def _folder(collection_id: str) -> str:
    """One path segment, whatever a collection is called; dots alone would lead out of it, and `quote` lets them be."""
    name = quote(collection_id, safe="")
    return name if name.strip(".") else name.replace(".", "%2E")


def _suffix(picture: Kept) -> str:
    return "." + picture.object_key.rsplit(".", 1)[-1]
