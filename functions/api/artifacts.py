"""Artifacts: finished pictures, for their owner and for admins. A discarded one is gone from here at once; what was
done with it is told to the end."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from functions.adapters import artifacts, collections, postgres, reviews, storage
from functions.adapters.artifacts import Kept
from functions.api import pictures
from functions.api.identity import Asker, may_see
from functions.api.pictures import Picture
from functions.api.problem import documented
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import Actor

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])
THUMBNAIL_TYPE = "image/webp"


class ArtifactView(BaseModel):
    """One picture; without a decision it waits for one. `deliver`: handed over without a review."""

    id: str
    job_id: str
    index: int
    sha256: str
    size_bytes: int
    content_type: str
    width_px: int
    height_px: int
    decision: Literal["accept", "discard", "deliver"] | None
    collection_id: str | None
    created_at: datetime
    decided_at: datetime | None
    purged_at: datetime | None = None

    @classmethod
    def of(cls, kept: Kept) -> "ArtifactView":
        return cls.model_validate(kept, from_attributes=True)


class Link(BaseModel):
    """An address that gives the picture to whoever holds it, until it expires."""

    url: str
    expires_at: datetime


class DoneView(BaseModel):
    """One thing that was done with the picture, and by whom; a function's name stands for the clock."""

    decision: Literal["accept", "discard", "restore", "deliver", "purge"]
    reviewer_id: str
    collection_id: str | None
    reason: str
    at: datetime


class History(BaseModel):
    """All that was done with a picture since it was rendered, oldest first."""

    rendered_at: datetime
    done: list[DoneView]


def _bytes(*types: str) -> dict[int | str, dict[str, Any]]:
    content = {one: {"schema": {"type": "string", "format": "binary"}} for one in types}
    return {
        200: {"description": "the picture", "content": content},
        206: {"description": "the range of it that was asked for", "content": content},
        304: {"description": "the one you have is it"},
    }


@router.get("/{artifact_id}", responses=documented(404))
def artifact(artifact_id: str, actor: Asker) -> ArtifactView:
    """What is known of a picture."""
    return ArtifactView.of(_found(artifact_id, actor))


@router.head("/{artifact_id}/content", response_class=Response, include_in_schema=False)
@router.get(
    "/{artifact_id}/content",
    response_class=Response,
    responses=documented(404, 416) | _bytes("image/png", "image/jpeg", "image/webp"),
)
def content(artifact_id: str, actor: Asker, request: Request) -> Response:
    """The picture itself, as it was rendered. The ETag is its SHA-256; `Range` asks for a part of it."""
    return pictures.answer(request, _picture(_found(artifact_id, actor)))


@router.head("/{artifact_id}/thumbnail", response_class=Response, include_in_schema=False)
@router.get(
    "/{artifact_id}/thumbnail",
    response_class=Response,
    responses=documented(404, 416) | _bytes(THUMBNAIL_TYPE),
)
def thumbnail(
    artifact_id: str,
    actor: Asker,
    request: Request,
    size: Annotated[int, Query(ge=1, le=4096, description="pixels it is shown in, the longer side")] = 384,
) -> Response:
    """A small WebP of the picture: the smallest there is that is no smaller than `size`, else the largest."""
    return pictures.answer(request, _thumbnail(_found(artifact_id, actor), size))


@router.get("/{artifact_id}/link", responses=documented(403, 404))
def link(artifact_id: str, actor: Asker) -> Link:
    """A presigned link to the picture, for a program that cannot send a token. It works for a short time, also when the
    picture is discarded in the meantime; an installation that does not want that gives none."""
    picture = _picture(_found(artifact_id, actor))
    lasts_s = config().link_s
    if not lasts_s:
        raise Rejected("links_disabled", "this installation gives no links: read /content with your token")
    expires_at = datetime.now(UTC) + timedelta(seconds=lasts_s)
    url = storage.link(
        picture.bucket,
        picture.key,
        lasts_s=lasts_s,
        content_type=picture.content_type,
        disposition=picture.headers["Content-Disposition"],
    )
    return Link(url=url, expires_at=expires_at)


@router.get("/{artifact_id}/history", responses=documented(404))
def history(artifact_id: str, actor: Asker) -> History:
    """Who did what with the picture, and when; also when it was discarded or purged."""
    kept = _owned(artifact_id, actor)
    with postgres.transaction() as tx:
        done = reviews.history(tx, kept.id)
    return History(rendered_at=kept.created_at, done=[DoneView(**vars(one)) for one in done])


def _found(artifact_id: str, actor: Actor) -> Kept:
    """The picture, if the actor may see it and it was not discarded; whoever may not learns no more than that."""
    kept = _owned(artifact_id, actor)
    if kept.decision == "discard" or kept.purged_at is not None:
        raise _unknown()
    return kept


def _owned(artifact_id: str, actor: Actor) -> Kept:
    if "\0" not in artifact_id:
        with postgres.transaction() as tx:
            kept = artifacts.get(tx, artifact_id)
        if kept and may_see(actor, kept):
            return kept
    raise _unknown()


def _unknown() -> Rejected:
    return Rejected("unknown_artifact", "there is no such picture of yours; it may have been discarded")


def _picture(kept: Kept) -> Picture:
    """Where the picture lies: in the outputs bucket, and in its collection alone once it let go of that."""
    held = kept.released_at is None
    return Picture(
        bucket=config().outputs_bucket if held else config().collections_bucket,
        key=kept.object_key if held else str(kept.collection_key),
        etag=kept.sha256,
        content_type=kept.content_type,
        name=f"{kept.id}.{kept.object_key.rpartition('.')[2]}",
        size_bytes=kept.size_bytes,
    )


def _thumbnail(kept: Kept, size_px: int) -> Picture:
    sizes = sorted(map(int, kept.thumbnails))
    px = str(next((px for px in sizes if px >= size_px), sizes[-1]))
    held = kept.released_at is None
    return Picture(
        bucket=config().outputs_bucket if held else config().collections_bucket,
        key=kept.thumbnails[px] if held else collections.thumbnail_key(str(kept.collection_key), px),
        etag=f"{kept.sha256}-thumbnail-{px}",
        content_type=THUMBNAIL_TYPE,
        name=f"{kept.id}.thumbnail-{px}.webp",
    )
