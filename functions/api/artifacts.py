"""Artifacts: finished pictures, for their owner and for admins. A discarded one is gone from here at once."""

from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from functions.adapters import artifacts, jobs, postgres, storage
from functions.adapters.artifacts import Kept
from functions.api.identity import Asker, may_see
from functions.api.problem import documented
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import Actor

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])
THUMBNAIL_TYPE = "image/webp"


class ArtifactView(BaseModel):
    """One picture; without a decision it waits for one."""

    id: str
    job_id: str
    index: int
    sha256: str
    size_bytes: int
    content_type: str
    width_px: int
    height_px: int
    decision: Literal["accept", "discard"] | None
    collection_id: str | None
    created_at: datetime
    decided_at: datetime | None

    @classmethod
    def of(cls, kept: Kept) -> "ArtifactView":
        return cls.model_validate(kept, from_attributes=True)


def _bytes(*types: str) -> dict[int | str, dict[str, Any]]:
    content = {one: {"schema": {"type": "string", "format": "binary"}} for one in types}
    return {200: {"description": "the picture", "content": content}, 304: {"description": "the one you have is it"}}


@router.get("/{artifact_id}", responses=documented(404))
def artifact(artifact_id: str, actor: Asker) -> ArtifactView:
    """What is known of a picture."""
    return ArtifactView.of(_found(artifact_id, actor))


@router.get(
    "/{artifact_id}/content",
    response_class=Response,
    responses=documented(404) | _bytes("image/png", "image/jpeg", "image/webp"),
)
def content(artifact_id: str, actor: Asker, request: Request) -> Response:
    """The picture itself, as it was rendered. The ETag is its SHA-256."""
    kept = _found(artifact_id, actor)
    headers = _headers(kept, etag=kept.sha256, suffix=kept.object_key.rpartition(".")[2])
    if _held(request, kept.sha256):
        return Response(status_code=304, headers=headers)
    chunks = _opened(kept.object_key)
    headers["Content-Length"] = str(kept.size_bytes)
    return StreamingResponse(chunks, headers=headers, media_type=kept.content_type)


@router.get(
    "/{artifact_id}/thumbnail",
    response_class=Response,
    responses=documented(404) | _bytes(THUMBNAIL_TYPE),
)
def thumbnail(artifact_id: str, actor: Asker, request: Request) -> Response:
    """A small WebP of the picture, at most 384 pixels wide and high."""
    kept = _found(artifact_id, actor)
    etag = f"{kept.sha256}-thumbnail"
    headers = _headers(kept, etag=etag, suffix="thumbnail.webp")
    if _held(request, etag):
        return Response(status_code=304, headers=headers)
    return StreamingResponse(_opened(kept.thumbnail_key), headers=headers, media_type=THUMBNAIL_TYPE)


def _found(artifact_id: str, actor: Actor) -> Kept:
    """The picture, if the actor may see it and it was not discarded; whoever may not learns no more than that."""
    if "\0" not in artifact_id:
        with postgres.transaction() as tx:
            kept = artifacts.get(tx, artifact_id)
            job = jobs.get(tx, kept.job_id) if kept else None
        if kept and job and kept.decision != "discard" and may_see(actor, job):
            return kept
    raise Rejected("unknown_artifact", "there is no such picture of yours; it may have been discarded")


def _headers(kept: Kept, *, etag: str, suffix: str) -> dict[str, str]:
    """The name comes from our own id, so nobody's text gets into a header or onto a disk."""
    return {
        "ETag": f'"{etag}"',
        "Cache-Control": "private, no-cache",  # kept, but asked about each time: it may have been discarded
        "Content-Disposition": f'inline; filename="{kept.id}.{suffix}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


def _held(request: Request, etag: str) -> bool:
    """Whether the asker holds this very version (RFC 9110, 13.1.2: weak comparison)."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return f'"{etag}"' in known or "*" in known


def _opened(key: str) -> Iterator[bytes]:
    """The object's bytes, begun: what is missing or out of reach is known before the answer begins."""
    chunks = storage.stream(config().outputs_bucket, key)
    try:
        first = next(chunks, b"")
    except storage.Missing:
        raise Rejected("object_missing", "the picture's file is gone from the store: tell an administrator") from None
    return chain((first,), chunks)
