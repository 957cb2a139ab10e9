"""The console at `/`: one plain page from the files in `static/`, and nothing from anywhere else."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).parent / "static"
HEADERS = {
    # Pictures are fetched with the token and shown as blobs; nothing is loaded from, or sent to, anywhere else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


async def console(request: Request) -> Response:
    """One of the page's files."""
    file = FOLDER / (request.url.path.rpartition("/")[2] or "index.html")
    data = file.read_bytes()
    headers = HEADERS | {"ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=TYPES[file.suffix])


# Only the files that are there have a route, so no path leads anywhere else.
for name in ("", *(file.name for file in FOLDER.iterdir())):
    router.add_api_route(f"/{name}", console, methods=["GET"])
