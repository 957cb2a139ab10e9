"""CSV: for whom a table is to be opened in a spreadsheet, rather than read by a program."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import Query, Request
from starlette.responses import Response, StreamingResponse

Format = Annotated[Literal["json", "csv"] | None, Query(alias="format", description="csv also by `Accept: text/csv`")]


def wanted(request: Request, named: str | None) -> bool:
    """Whether the answer is to be CSV: the address says so, or, where it says nothing, the Accept header does."""
    accept = request.headers.get("accept", "")
    return named == "csv" or (named is None and "text/csv" in accept and "json" not in accept)


def answer(rows: Iterable[str], name: str) -> Response:
    """The rows as they come, however many; `name` becomes the file's."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:80]
    headers = {
        "Content-Disposition": f'attachment; filename="{plain}.csv"',
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(rows, headers=headers, media_type="text/csv")
