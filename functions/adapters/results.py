"""What a render leaves in the outputs bucket: pictures, their thumbnails, and a manifest, written last.

Keys name job, attempt and content, so nothing is ever overwritten and a second upload of the same bytes is the first.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

from functions.adapters import storage
from functions.config import config
from functions.domain import png
from functions.domain.errors import Failure, RenderFailed
from functions.domain.event import Artifact
from functions.domain.job import Job

THUMBNAIL_PX = 384
CONTENT_TYPES = {"PNG": ("png", "image/png"), "JPEG": ("jpg", "image/jpeg"), "WEBP": ("webp", "image/webp")}


def folder(job: Job) -> str:
    """Where this attempt's objects lie."""
    return f"generated/{job.id}/{job.attempt}"


def store(job: Job, index: int, data: bytes, texts: Mapping[str, str]) -> Artifact:
    """Store one picture and its thumbnail; RenderFailed when the bytes are no picture.

    texts: what a PNG tells of itself, in place of what ComfyUI wrote, which names this job's folder; unless
    PICTURE_METADATA is none.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            suffix, content_type = CONTENT_TYPES[picture.format or ""]
            width_px, height_px = picture.size
            picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
            small = io.BytesIO()
            picture.convert("RGB").save(small, "WEBP", quality=80, method=4)
        if suffix == "png":
            data = png.retold(data, texts if config().picture_metadata == "full" else {})
    except (UnidentifiedImageError, OSError, KeyError, ValueError, Image.DecompressionBombError) as error:
        raise RenderFailed(
            Failure.TRANSIENT,
            "output_unreadable",
            f"picture {index} is no readable image: {error.__class__.__name__}",
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    thumbnail = small.getvalue()
    key = f"{folder(job)}/{index:02d}-{sha256[:16]}"
    storage.write_once(config().outputs_bucket, f"{key}.{suffix}", data, content_type=content_type)
    storage.write_once(config().outputs_bucket, f"{key}.thumbnail.webp", thumbnail, content_type="image/webp")
    return Artifact(
        index=index,
        key=f"{key}.{suffix}",
        sha256=sha256,
        size_bytes=len(data),
        content_type=content_type,
        width_px=width_px,
        height_px=height_px,
        thumbnail_key=f"{key}.thumbnail.webp",
        thumbnail_sha256=hashlib.sha256(thumbnail).hexdigest(),
    )


def write_manifest(job: Job, artifacts: tuple[Artifact, ...], made: Mapping[str, Any]) -> str:
    """Write down what was made, by what and from what; gives the key. Its presence says that the rest is complete.

    The prompt is not in it: objects travel, and a prompt may be private. It is in Postgres with the job.
    """
    key = f"{folder(job)}/manifest.json"
    manifest = {
        "job_id": job.id,
        "attempt": job.attempt,
        "worker": job.worker,
        "workflow": {"id": job.workflow_id, "version": job.workflow_version, "sha256": job.workflow_sha256},
        "seed": str(job.seed),
        "parameters": dict(job.parameters),
        "artifacts": [vars(artifact) for artifact in artifacts],
        **made,
    }
    data = json.dumps(manifest, indent=2, sort_keys=True).encode()
    storage.write_once(config().outputs_bucket, key, data, content_type="application/json")
    return key
