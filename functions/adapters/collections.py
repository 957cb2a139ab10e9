"""Collections: accepted pictures are copied to where the platform's galleries keep theirs, with their thumbnails."""

from datetime import datetime
from urllib.parse import quote

from functions.adapters import storage
from functions.adapters.artifacts import Kept
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import ArtifactAccepted
from functions.domain.job import Job

TAG = "generated"


PREFIX = "collections/"


def key_of(picture: Kept, collection_id: str) -> str:
    """Where a collection has its copy."""
    return f"{PREFIX}{_folder(collection_id)}/{picture.id}{_suffix(picture)}"


def thumbnail_key(key: str, px: str) -> str:
    """Where a collection has the copy's thumbnail of this size."""
    return f"{key.rpartition('.')[0]}.thumbnail-{px}.webp"


def hand_over(job: Job, picture: Kept, *, collection_id: str, reviewer_id: str, at: datetime) -> ArtifactAccepted:
    """Copy the picture into the collection, and all a gallery needs to know of it.

    The key is computed from collection and picture, so a second copy after a crash lands on the first. Rejected when
    there is nothing to copy.
    """
    key = key_of(picture, collection_id)
    thumbnails = {px: thumbnail_key(key, px) for px in picture.thumbnails}
    try:
        for px, small in picture.thumbnails.items():
            _copy(small, thumbnails[px], "image/webp")
        _copy(picture.object_key, key, picture.content_type)
    except storage.Missing as missing:
        raise Rejected("object_missing", f"{missing} is gone from the store, or its collections bucket is") from missing
    return ArtifactAccepted(
        job_id=job.id,
        artifact_id=picture.id,
        decisions=picture.decisions + 1,
        user_id=job.user_id,
        reviewer_id=reviewer_id,
        collection_id=collection_id,
        bucket=config().collections_bucket,
        key=key,
        sha256=picture.sha256,
        size_bytes=picture.size_bytes,
        content_type=picture.content_type,
        width_px=picture.width_px,
        height_px=picture.height_px,
        thumbnails=thumbnails,
        workflow_id=job.workflow_id,
        workflow_version=job.workflow_version,
        workflow_sha256=job.workflow_sha256,
        model=job.model,
        loras=job.loras,
        seed=str(job.seed),
        parameters=job.parameters,
        tags=(TAG, *job.tags),
        rendered_at=picture.created_at,
        accepted_at=at,
    )


def _copy(source: str, target: str, content_type: str) -> None:
    storage.copy((config().outputs_bucket, source), (config().collections_bucket, target), content_type=content_type)


def _folder(collection_id: str) -> str:
    """One path segment, whatever a collection is called; dots alone would lead out of it, and `quote` lets them be."""
    name = quote(collection_id, safe="")
    return name if name.strip(".") else name.replace(".", "%2E")


def _suffix(picture: Kept) -> str:
    return "." + picture.object_key.rsplit(".", 1)[-1]
