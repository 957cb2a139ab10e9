"""What a render leaves in the outputs bucket: pictures, their thumbnails, and a manifest, written last.

Keys name job, attempt and content, so nothing is ever overwritten and a second upload of the same bytes is the first.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from functions.adapters import storage
from functions.config import config
from functions.domain import png
from functions.domain.errors import Failure, RenderFailed
from functions.domain.event import Artifact, Thumbnail
from functions.domain.job import Job

if TYPE_CHECKING:
    from PIL.Image import Image

#: The sizes thumbnails come in; a picture that is no larger than a size has none of it, but always one of MAIN_PX.
THUMBNAIL_PX = (192, 384, 768)
MAIN_PX = 384
CONTENT_TYPES = {"PNG": ("png", "image/png"), "JPEG": ("jpg", "image/jpeg"), "WEBP": ("webp", "image/webp")}


def folder(job: Job) -> str:
    """Where this attempt's objects lie."""
    return f"generated/{job.id}/{job.attempt}"


def store(job: Job, index: int, data: bytes, texts: Mapping[str, str]) -> Artifact:
    """Store one picture and its thumbnails; RenderFailed when the bytes are no picture, or the store holds others than
    it was given.

    texts: what a PNG tells of itself, in place of what ComfyUI wrote, which names this job's folder; unless
    PICTURE_METADATA is none.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            suffix, content_type = CONTENT_TYPES[picture.format or ""]
            width_px, height_px = picture.size
            thumbnails = _thumbnails(picture)
        if suffix == "png":
            data = png.retold(data, texts if config().picture_metadata == "full" else {})
    except (UnidentifiedImageError, OSError, KeyError, ValueError, Image.DecompressionBombError) as error:
        raise RenderFailed(
            Failure.TRANSIENT,
            "output_unreadable",
            f"picture {index} is no readable image: {error.__class__.__name__}",
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"{folder(job)}/{index:02d}-{sha256[:16]}"
    storage.write_once(config().outputs_bucket, f"{key}.{suffix}", data, content_type=content_type)
    if storage.sha256(config().outputs_bucket, f"{key}.{suffix}") != sha256:
        raise RenderFailed(Failure.TRANSIENT, "upload_damaged", f"the store holds other bytes than picture {index} has")
    stored = [_store_thumbnail(f"{key}.thumbnail{_of(px)}.webp", px, small) for px, small in thumbnails.items()]
    main = next(one for one in stored if one.px == MAIN_PX)
    return Artifact(
        index=index,
        key=f"{key}.{suffix}",
        sha256=sha256,
        size_bytes=len(data),
        content_type=content_type,
        width_px=width_px,
        height_px=height_px,
        thumbnail_key=main.key,
        thumbnail_sha256=main.sha256,
        thumbnails=tuple(stored),
    )


def _thumbnails(picture: "Image") -> dict[int, bytes]:
    """The picture smaller, as WebP, by size; it is made smaller in place, from the largest size down."""
    made = {}
    for px in sorted(THUMBNAIL_PX, reverse=True):
        if px != MAIN_PX and px >= max(picture.size):
            continue
        picture.thumbnail((px, px))
        small = io.BytesIO()
        picture.convert("RGB").save(small, "WEBP", quality=80, method=4)
        made[px] = small.getvalue()
    return made


def _of(px: int) -> str:
    return "" if px == MAIN_PX else f"-{px}"


def _store_thumbnail(key: str, px: int, data: bytes) -> Thumbnail:
    storage.write_once(config().outputs_bucket, key, data, content_type="image/webp")
    return Thumbnail(px=px, key=key, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


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
        "artifacts": [asdict(artifact) for artifact in artifacts],
        **made,
    }
    data = json.dumps(manifest, indent=2, sort_keys=True).encode()
    storage.write_once(config().outputs_bucket, key, data, content_type="application/json")
    return key
