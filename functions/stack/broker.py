"""A small Broker for one machine: takes CloudEvents on POST / and brings them to whoever the Triggers name.

It follows Knative's rules (see `courier`), keeps nothing on disk, and answers 202 before it delivers. Killing it
loses what it held: the outbox above it makes up for that, and on a laptop one can try exactly that.

    python -m functions.stack.broker --port 8090 --triggers k8s/triggers.yaml \\
        --service submit=http://127.0.0.1:8101 --service debit=http://127.0.0.1:8102 --dead-letters dead.jsonl
"""

import argparse
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from functions.stack import cloudevent, trigger
from functions.stack.courier import Courier, Full, Subscription
from functions.stack.trigger import Trigger

log = logging.getLogger(__name__)

_PREFIX = "generator-"
"""Subscribers are Knative Services of this prefix; on the command line `debit` means `generator-debit`."""
_GRACE_S = 2.0


class _Shared(TypedDict):
    courier: Courier


def app(
    triggers: Sequence[Trigger],
    services: Mapping[str, str],
    *,
    dead_letters: Path,
    sink_all: str | None = None,
    backoff_scale: float = 1.0,
) -> Starlette:
    """The Broker as an ASGI application; a Trigger whose subscriber has no address hears nothing."""
    bound = [(one, services[one.subscriber]) for one in triggers if one.subscriber in services]
    unbound = [one.name for one in triggers if one.subscriber not in services]
    if unbound:
        log.warning("no address for the subscribers of %s; they hear nothing", ", ".join(unbound))
    if sink_all:
        bound.append((Trigger(name="everything", subscriber="everything"), sink_all))

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[_Shared]:
        courier = Courier(
            [Subscription(trigger=one, url=url) for one, url in bound],
            services=services,
            dead_letters=dead_letters,
            backoff_scale=backoff_scale,
        )
        yield {"courier": courier}
        await courier.close(grace_s=_GRACE_S)

    async def stats(request: Request) -> Response:
        courier: Courier = request.state.courier
        return JSONResponse({**vars(courier.stats), "held": courier.held, "unbound": unbound})

    return Starlette(
        lifespan=life,
        routes=[
            Route("/", _ingress, methods=["POST"]),
            Route("/healthz", _healthz),
            Route("/stats", stats),
        ],
    )


async def _ingress(request: Request) -> Response:
    courier: Courier = request.state.courier
    try:
        event = cloudevent.read(request.headers, await request.body())
        courier.accept(event.with_attributes(knativearrivaltime=datetime.now(UTC).isoformat()))
    except cloudevent.Malformed as error:
        return PlainTextResponse(str(error), status_code=400)
    except Full:
        return PlainTextResponse("too much is waiting", status_code=503, headers={"retry-after": "1"})
    return Response(status_code=202)


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")


def _named(pairs: Sequence[str]) -> dict[str, str]:
    """`debit=http://...` as {"generator-debit": "http://..."}."""
    named = {}
    for pair in pairs:
        name, separator, url = pair.partition("=")
        if not separator:
            raise SystemExit(f"--service {pair}: write NAME=URL")
        named[name if name.startswith(_PREFIX) else _PREFIX + name] = url
    return named


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m functions.stack.broker", description="A local Broker.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--triggers", type=Path, required=True, help="file of Knative Trigger manifests")
    parser.add_argument("--service", action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--sink-all", metavar="URL", help="hears every event")
    parser.add_argument("--dead-letters", type=Path, required=True, help="file, one JSON line an event")
    parser.add_argument("--backoff-scale", type=float, default=1.0, help="0.1: pauses between retries a tenth")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    broker = app(
        trigger.read(chosen.triggers),
        _named(chosen.service),
        dead_letters=chosen.dead_letters,
        sink_all=chosen.sink_all,
        backoff_scale=chosen.backoff_scale,
    )
    uvicorn.run(
        broker,
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
