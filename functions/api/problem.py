"""What went wrong, as RFC 9457 problem+json: a stable `code` for programs, a sentence with the remedy for people."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from functions.domain.errors import Rejected, Unavailable

log = logging.getLogger(__name__)
RETRY_AFTER_S = 5
MOST_ERRORS = 20
NAME_LENGTH = 100  # a field's name may be the asker's own invention

#: What is not here is the request's own fault: 422.
STATUS: Mapping[str, int] = {
    "invalid_json": 400,
    "unsigned": 401,
    "expired": 401,
    "token_invalid": 401,
    "insufficient_credits": 402,
    "spending_cap_reached": 402,
    "role_not_allowed": 403,
    "second_admin_needed": 403,
    "links_disabled": 403,
    "collection_not_yours": 403,
    "user_blocked": 403,
    "unknown_job": 404,
    "unknown_artifact": 404,
    "unknown_grant": 404,
    "unknown_team_pool": 404,
    "unknown_member": 404,
    "unknown_dead_job": 404,
    "unknown_pool": 404,
    "object_missing": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_late": 409,
    "already_decided": 409,
    "grant_expired": 409,
    "team_pool_exists": 409,
    "not_discarded": 409,
    "purged": 410,
    "not_awaiting_review": 409,
    "job_exists": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "user_waiting_limit": 429,
    "role_waiting_limit": 429,
    "pool_waiting_limit": 429,
    "global_waiting_limit": 429,
    "queue_saturated": 503,
    "pool_draining": 503,
}
OF_STATUS = {404: "not_found", 405: "method_not_allowed"}


#: Pydantic's error types (docs.pydantic.dev, "Validation Errors") in our words; the braces are the bounds that hold.
WORDS: Mapping[str, str] = {
    "missing": "must be given",
    "missing_argument": "must be given",
    "missing_keyword_only_argument": "must be given",
    "unexpected_keyword_argument": "there is no such field",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "predicate_failed": "must not hold a NUL character",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
}


class FieldError(BaseModel):
    """One field that is wrong, and what would be right."""

    field: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details. `code` never changes its meaning; `detail` may be reworded."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    errors: list[FieldError] | None = None


class Invalid(Rejected):
    """Several fields are wrong; the first stands for them all where there is room for one."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        first = errors[0]
        super().__init__("invalid_request", f"{first.field}: {first.detail}", field=first.field)
        self.errors = errors[:MOST_ERRORS]


def invalid(found: Sequence[Mapping[str, Any]], *, skip: int = 0) -> Invalid:
    """Pydantic's findings as ours, one a field, never with the value that was sent; `skip` leading path parts."""
    errors: dict[str, str] = {}
    for one in found:
        path = one["loc"][skip:]
        # Of a union pydantic names every branch; whoever asks wants one sentence.
        seed = path[:1] == ("seed",)
        field = "seed" if seed else ".".join(str(part) for part in path)[:NAME_LENGTH]
        said = "must be a whole number from 0 to 2^64-1, or its decimal digits in a string" if seed else _words(one)
        errors.setdefault(field or "body", said)
    return Invalid([FieldError(field=field, detail=detail) for field, detail in errors.items()])


def _words(one: Mapping[str, Any]) -> str:
    """What would be right; pydantic's own words where they are good enough for people."""
    bounds = one.get("ctx", {})
    if bounds.get("min_length") == 1:
        return "must not be empty"
    if one["type"] in WORDS:
        return WORDS[one["type"]].format(**bounds)
    said = str(one["msg"]).removeprefix("Input should be ")
    return f"must be {said}" if said != one["msg"] else said


def response(
    code: str,
    detail: str,
    *,
    status: int | None = None,
    field: str | None = None,
    errors: Sequence[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The problem as an answer; its status follows from its code."""
    status = status or STATUS.get(code, 422)
    headers = dict(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="generator"'
        if code != "unsigned":
            headers["WWW-Authenticate"] += ', error="invalid_token"'
    said = Problem(
        type=f"urn:visionsuit:generator:problem:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        code=code,
        field=field,
        errors=list(errors) if errors else None,
    )
    return JSONResponse(said.model_dump(exclude_none=True), status, headers, media_type="application/problem+json")


def of(no: Rejected) -> Response:
    """A refusal as an answer."""
    errors = no.errors if isinstance(no, Invalid) else None
    headers = None if no.retry_after_s is None else {"Retry-After": str(no.retry_after_s)}
    return response(no.code, no.detail, field=no.field, errors=errors, headers=headers)


def unavailable(error: Unavailable) -> Response:
    """Something behind us does not answer: 503, and when to come back."""
    detail = f"{error}. Nothing was lost: try again in a moment."
    return response("unavailable", detail, status=503, headers={"Retry-After": str(RETRY_AFTER_S)})


def internal() -> Response:
    """Our own fault; what it was is in the log and not in the answer."""
    return response("internal", "an error on our side; it has been logged", status=500)


def install(app: FastAPI) -> None:
    """Let every error leave as a problem."""

    async def rejected(_: Request, no: Exception) -> Response:
        assert isinstance(no, Rejected)  # noqa: S101
        return of(no)

    async def away(request: Request, error: Exception) -> Response:
        assert isinstance(error, Unavailable)  # noqa: S101
        log.warning("503 for %s %s: %s", request.method, request.url.path, error)
        return unavailable(error)

    async def parameters(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return of(invalid(error.errors(), skip=1))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = OF_STATUS.get(error.status_code, "http_error")
        detail = {
            "not_found": "there is nothing at this address; /openapi.json lists what there is",
            "method_not_allowed": f"{request.method} means nothing here; see the Allow header",
        }.get(code, str(error.detail))
        return response(code, detail, status=error.status_code, headers=error.headers)

    async def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    async def crash(_: Request, error: Exception) -> Response:
        return internal()

    app.add_exception_handler(Rejected, rejected)
    app.add_exception_handler(Unavailable, away)
    app.add_exception_handler(RequestValidationError, parameters)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, crash)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems an endpoint may answer with, for OpenAPI; every one may be met by 401, 422, 500 and 503."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, 401, 422, 500, 503})
    }
