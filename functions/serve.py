"""serve: CloudEvents in, answers out, under functions-framework's http signature and its ASGI server.

`FUNCTION_SOURCE=functions/serve.py FUNCTION_TARGET=<verb> functions-framework --asgi` serves one verb; the target `api`
serves REST and the console, `metrics` what Prometheus reads, and `deadletter` is the dead letter sink. A target is made
when it is asked for, so each process loads its own verb and no other.

The answer to an event: 204 with an empty body when it is answered (also when it was before); 422 for what no retry can
help, which sends it to the dead letter sink; 503 for "try again"; 400 for what is no CloudEvent. Never 404, 409 or 429:
a Knative Broker retries those. The body is empty throughout, because a Broker takes any other for a failed delivery.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import functions_framework.aio
from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http
from starlette.requests import Request
from starlette.responses import Response

from functions.adapters import admission, identity, postgres, shapes
from functions.domain.errors import Rejected, Unavailable
from functions.domain.event import BY_TYPE, Asked, JobRequested
from functions.domain.text import storable
from functions.hear import Heard, hear, refuse
from functions.logs import configure

VERBS = ("submit", "debit", "dispatch", "complete", "review", "cancel", "earn", "sweep")
LIMIT_BYTES = 256 * 1024
#: A Broker on Kafka carries no more (`message.max.bytes`). An event the others found too long is a dead letter as well.
DEAD_LETTER_LIMIT_BYTES = 1 << 20

log = logging.getLogger("functions.serve")
Handler = Callable[[Request], Awaitable[Response]]


def __getattr__(name: str) -> Handler:
    if name == "api":
        from functions.api.app import serve_api

        made: Handler = serve_api
    elif name == "metrics":
        made = _exporter
    elif name in ANSWERS:
        made = _listener(name)
    else:
        raise AttributeError(name)
    configure(name)
    made.__name__ = name
    registered: Handler = functions_framework.aio.http(made)  # type: ignore[assignment]
    return registered


def _listener(verb: str) -> Handler:
    answer, limit_bytes = ANSWERS[verb]

    async def listen(request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            return Response(status_code=200 if request.url.path in ("/healthz", "/readyz") else 404)
        if request.method != "POST":
            return Response(status_code=405)
        body = await _bounded(request, limit_bytes)
        if body is None:
            log.error("%s: 422 for %s: more than %d bytes", verb, request.headers.get("ce-id"), limit_bytes)
            return Response(status_code=422)
        return Response(status_code=await asyncio.to_thread(answer, verb, request.headers, body))

    return listen


async def _bounded(request: Request, limit_bytes: int) -> bytes | None:
    """The body; None as soon as it is longer than any event of ours may be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            return None
    return bytes(body)


def _answer(verb: str, headers: Mapping[str, str], body: bytes) -> int:
    """Let the verb hear what a Broker delivered; gives the status to answer with."""
    try:
        event = from_http(_decoded(headers), body, data_unmarshaller=_raw)
    except (GenericException, ValueError, TypeError, RecursionError):
        return 400
    try:
        hear(verb, read(verb, event))
    except Rejected as no:
        log.warning("%s: 422 for %s: %s", verb, event["id"], no.code)
        return 422
    except Unavailable as error:
        log.warning("%s: 503 for %s: %s", verb, event["id"], error)
        return 503
    except Exception:
        # Said here, because what functions-framework would log is the exception's text, and that may quote a prompt.
        log.exception("%s: 500 for %s", verb, event["id"])
        return 500
    return 204


def read(verb: str, event: CloudEvent) -> Heard:
    """A CloudEvent as the verbs hear it; whoever asks from outside must have signed for it."""
    source, id, subject = str(event["source"]), str(event["id"]), str(event.get("subject") or "")
    if not all(len(key) <= 512 and storable(key) for key in (source, id)):
        raise Rejected("invalid_event", "an event's source and id are texts of at most 512 characters")
    data: bytes = event.get_data() or b""  # `_raw` made bytes of whatever there was
    cls = BY_TYPE.get(str(event["type"]))
    if cls and cls.heard_by != verb:
        raise Rejected("unknown_event", f"{verb} does not hear {cls.name}: a Trigger is wrong")
    if cls is None or not issubclass(cls, Asked):
        told = shapes.event(str(event["type"]), subject=subject, data=data, actor=None)
        return Heard(source=source, id=id, event=told)
    if cls.of_a_job:
        admission.check_job_id(subject)
    signature = None
    try:
        signature = identity.signature(event.get("authtoken"), data)
        asked = shapes.event(str(event["type"]), subject=subject, data=data, actor=signature.actor)
    except Rejected as no:
        if cls is JobRequested:
            refuse(verb, job_id=subject, no=no, heard=(source, id) if signature else None)
        raise
    return Heard(source=source, id=id, event=asked, signature=signature)


def _sweep(verb: str, headers: Mapping[str, str], body: bytes) -> int:
    """The clock's tick says nothing but that time has passed."""
    from functions.sweep import sweep

    try:
        sweep()
    except Unavailable as error:
        log.warning("%s: %s; the next tick goes on", verb, error)
        return 503
    return 204


def _bury(verb: str, headers: Mapping[str, str], body: bytes) -> int:
    """Keep what could not be delivered, whatever it is; only what is no CloudEvent at all is refused."""
    from functions import deadletter

    try:
        event = from_http(_decoded(headers), body, data_unmarshaller=_raw)
        letter = deadletter.read(event.get_attributes(), event.get_data() or b"")
    except (GenericException, ValueError, TypeError, RecursionError):
        log.error("%s: 400 for what is no CloudEvent", verb)
        return 400
    try:
        with postgres.transaction() as tx:
            deadletter.deadletter(tx, letter)
    except Unavailable as error:
        log.warning("%s: 503 for %s: %s", verb, event["id"], error)
        return 503
    except Exception:
        log.exception("%s: 500 for %s", verb, event["id"])
        return 500
    return 204


#: How each listener answers what it hears, and how long that may be.
ANSWERS = {verb: (_answer, LIMIT_BYTES) for verb in VERBS} | {
    "sweep": (_sweep, LIMIT_BYTES),
    "deadletter": (_bury, DEAD_LETTER_LIMIT_BYTES),
}


async def _exporter(request: Request) -> Response:
    """What Prometheus reads, at /metrics."""
    if request.method not in ("GET", "HEAD"):
        return Response(status_code=405)
    if request.url.path in ("/healthz", "/readyz"):
        return Response(status_code=200)
    if request.url.path != "/metrics":
        return Response(status_code=404)
    from functions.metrics import metrics

    body, content_type = await asyncio.to_thread(metrics, request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


def _decoded(headers: Mapping[str, str]) -> dict[str, str]:
    """Attribute values as they were before they became header values (CloudEvents HTTP binding 1.0.2, 3.1.3.2)."""
    return {name: unquote(value) if name.lower().startswith("ce-") else value for name, value in headers.items()}


def _raw(data: Any) -> bytes:
    """The data as JSON bytes, whichever mode brought it: a structured event has it parsed already."""
    return data if isinstance(data, bytes) else data.encode() if isinstance(data, str) else json.dumps(data).encode()
