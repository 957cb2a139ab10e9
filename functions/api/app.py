"""The REST door: every resource in one application, served as one function like the others."""

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from functions.api import (
    artifacts,
    body,
    console,
    credits,
    health,
    jobs,
    options,
    place,
    problem,
    queue,
    quotes,
    reviews,
)
from functions.api.admin import dead_letters, pools, sla, users
from functions.api.admin import grants as admin_grants
from functions.api.admin import ledger as admin_ledger
from functions.api.admin import storage as admin_storage
from functions.api.admin import team_pools as admin_team_pools
from functions.api.admin.dead_letters import DropRequest, RequeueRequest
from functions.api.admin.pools import PoolOrder
from functions.api.admin.users import BlockRequest
from functions.api.reviews import ReviewRequest
from functions.domain.request import JobRequest

log = logging.getLogger(__name__)
ADMIN = (pools, users, dead_letters, sla, admin_grants, admin_ledger, admin_storage, admin_team_pools)
RESOURCES = (health, quotes, jobs, place, queue, reviews, artifacts, credits, options, *ADMIN, console)
BODIES = (
    *(JobRequest, ReviewRequest, PoolOrder, BlockRequest, RequeueRequest, DropRequest),
    *(admin_grants.GrantRequest, admin_grants.Refusal, admin_ledger.AdjustmentRequest),
    *(admin_team_pools.TeamRequest, admin_team_pools.MemberRequest),
)
#: What the server said of the connection; all else in a scope is the outer router's, and would mislead the inner one.
SERVERS_OWN = {
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string"),
    *("root_path", "headers", "client", "server", "extensions", "state"),
}


def make() -> FastAPI:
    """The application, with its OpenAPI document."""
    made = FastAPI(
        title="VisionSuit image generator",
        version="1",
        description="Ask for pictures, watch them come to be, keep or discard them; every credit is accounted for. "
        "Errors are RFC 9457 problems with a stable `code`.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    problem.install(made)
    for resource in RESOURCES:
        made.include_router(resource.router)
    _document_bodies(made)
    return made


def _document_bodies(made: FastAPI) -> None:
    """Bodies are read by `body.parse`, so FastAPI does not know their schemas; here it is told."""
    generate: Callable[[], dict[str, Any]] = made.openapi

    def openapi() -> dict[str, Any]:
        fresh = made.openapi_schema is None
        document = generate()
        if fresh:
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= body.schemas(*BODIES, problem.Problem)
            # FastAPI describes its own validation errors, which never leave this house in that shape.
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
        return document

    made.openapi = openapi  # type: ignore[method-assign]


app = make()


class _Answer(Response):
    """An answer that the application gives itself when it is sent."""

    def __init__(self) -> None:
        """Nothing is known of the answer yet, so there is nothing for Response to prepare."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await app({key: value for key, value in scope.items() if key in SERVERS_OWN}, receive, watched)
        except Exception:
            # The application has answered 500 already, if an answer had not begun. Further out, the error would be
            # logged with its text, which may quote a prompt.
            log.exception("%s %s failed", scope["method"], scope["path"])
            if not begun:
                await problem.internal()(scope, receive, send)


async def serve_api(request: Request) -> Response:
    """The function: REST and the console, by the application above."""
    return _Answer()
