"""A stored picture over HTTP: whole or a range of it, and nothing for whoever has it already (RFC 9110)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from functions.adapters import storage
from functions.api import problem
from functions.domain.errors import Rejected


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Bytes in the store, and how they are told. size_bytes is None where it is not on record (thumbnails). `name`
    comes from our own id, so that nobody's text gets into a header or onto a disk."""

    bucket: str
    key: str
    etag: str
    content_type: str
    name: str
    size_bytes: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ETag": f'"{self.etag}"',
            "Cache-Control": "private, no-cache",  # kept, but asked about each time: it may have been discarded
            "Content-Disposition": f'inline; filename="{self.name}"',
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }


def answer(request: Request, picture: Picture) -> Response:
    """What this request gets of the picture: 200, 206, 304 or 416."""
    headers = picture.headers
    if _holds(request.headers.get("if-none-match", ""), picture.etag):
        return Response(status_code=304, headers=headers)
    size_bytes = _size(picture)
    headers |= {"Accept-Ranges": "bytes", "Content-Length": str(size_bytes)}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=picture.content_type)
    # If-Range names the version the asker has a part of; of another one it wants the whole.
    asked = request.headers.get("range", "")
    if request.headers.get("if-range", f'"{picture.etag}"') != f'"{picture.etag}"':
        asked = ""
    part = _part(asked, size_bytes)
    if part is None:
        return StreamingResponse(_opened(picture), headers=headers, media_type=picture.content_type)
    start, end = part
    if start >= end:
        held = {"Content-Range": f"bytes */{size_bytes}"}
        return problem.response("range_invalid", f"the picture has {size_bytes} bytes", status=416, headers=held)
    headers |= {"Content-Range": f"bytes {start}-{end - 1}/{size_bytes}", "Content-Length": str(end - start)}
    return StreamingResponse(
        _opened(picture, start=start, end=end), status_code=206, headers=headers, media_type=picture.content_type
    )


def _part(asked: str, size_bytes: int) -> tuple[int, int] | None:
    """The bytes asked for, from the first to before the last; None for all of them: also where several ranges are asked
    for, or none that we understand, which RFC 9110 (14.2) lets a server pass over."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", asked.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size_bytes - int(last)), size_bytes if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size_bytes) if last else size_bytes


def _holds(if_none_match: str, etag: str) -> bool:
    """Whether the asker holds this very version (RFC 9110, 13.1.2: weak comparison)."""
    known = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return f'"{etag}"' in known or "*" in known


def _size(picture: Picture) -> int:
    found = picture.size_bytes
    if found is None:
        found = storage.size(picture.bucket, picture.key)
    if found is None:
        raise _missing()
    return found


def _opened(picture: Picture, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The object's bytes, begun: what is missing or out of reach is known before the answer begins."""
    chunks = storage.stream(picture.bucket, picture.key, start=start, end=end)
    try:
        first = next(chunks, b"")
    except storage.Missing:
        raise _missing() from None
    return chain((first,), chunks)


def _missing() -> Rejected:
    return Rejected("object_missing", "the picture's file is gone from the store: tell an administrator")
