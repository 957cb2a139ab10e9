"""Cursors: where a page of a listing ends, as an opaque text that the next call sends back."""

import base64
import json
from datetime import datetime
from typing import Annotated

from fastapi import Query

from functions.domain.errors import Rejected

Place = tuple[datetime, str]
Limit = Annotated[int, Query(ge=1, le=100, description="how many at the most")]
Cursor = Annotated[str | None, Query(alias="cursor", max_length=600, description="`next_cursor` of the page before")]


def encode(at: datetime, id: str) -> str:
    """The place just after this row."""
    return base64.urlsafe_b64encode(json.dumps([at.isoformat(), id]).encode()).decode().rstrip("=")


def decode(cursor: str | None) -> Place | None:
    """The place a cursor names, None for the beginning; Rejected when it is none of ours."""
    if cursor is None:
        return None
    try:
        at, id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        place = datetime.fromisoformat(at), str(id)
    except (ValueError, TypeError):
        place = None
    if place is None or place[0].tzinfo is None or "\0" in place[1]:
        raise Rejected("cursor_invalid", "send the `next_cursor` of the page before, unchanged", field="cursor")
    return place
