"""The local Broker's courier: brings an event to everyone who wants it, as Knative would.

Tried again: no answer, 404, 408, 409, 429 and 500 upwards, with the Trigger's backoff. Everything else
that is not 2xx goes to the dead letters at once. A 2xx with a body that is no CloudEvent is a failure
(502), one that is a CloudEvent goes back to the Broker. Source: knative/eventing 1.22,
`pkg/kncloudevents/retries.go`, `event_dispatcher.go`, `pkg/broker/filter/filter_handler.go`.
"""

import asyncio
import base64
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from functions.stack import cloudevent
from functions.stack.cloudevent import CloudEvent
from functions.stack.trigger import Delivery, Trigger

log = logging.getLogger(__name__)

_TRIED_AGAIN = {404, 408, 409, 429}
_AT_ONCE = 32
"""Open requests a subscriber gets at a time; a slow one keeps nobody else waiting."""
_MOST_HELD = 100_000
_MOST_HOPS = 255
_MOST_ERROR_CHARACTERS = 1024


class Full(Exception):
    """More deliveries wait than the Broker holds in memory; the sender should try again."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one attempt came to."""

    status: int
    body: bytes = b""
    reply: CloudEvent | None = None

    @property
    def delivered(self) -> bool:
        return 200 <= self.status < 300

    @property
    def may_be_tried_again(self) -> bool:
        return self.status in _TRIED_AGAIN or self.status >= 500


@dataclass(frozen=True)
class Stats:
    """Counts by event type since the Broker started."""

    accepted: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """A Trigger with the address of its subscriber."""

    trigger: Trigger
    url: str
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))


class Courier:
    """Delivers in memory: what it holds when it is killed is lost, as on Knative's in-memory channel."""

    def __init__(
        self,
        subscriptions: Sequence[Subscription],
        *,
        services: Mapping[str, str],
        dead_letters: Path,
        backoff_scale: float = 1.0,
    ) -> None:
        self.stats = Stats()
        self._subscriptions = subscriptions
        self._services = services
        self._dead_letters = dead_letters
        self._backoff_scale = backoff_scale
        self._under_way: set[asyncio.Task[None]] = set()
        # Shorter than any server's keep-alive: a connection the server just closed would cost a retry.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=1.0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    @property
    def held(self) -> int:
        return len(self._under_way)

    def accept(self, event: CloudEvent, *, hops: int = 0) -> None:
        """Take an event and bring it, in the background, to every Trigger that wants it; Full: too much waits."""
        if self.held >= _MOST_HELD:
            raise Full
        self.stats.accepted[event.type] += 1
        for subscription in self._subscriptions:
            if subscription.trigger.wants(event.attributes):
                task = asyncio.create_task(self._deliver(subscription, event, hops))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def close(self, *, grace_s: float) -> None:
        """Let deliveries finish for a while, then drop the rest."""
        if self._under_way:
            _, unfinished = await asyncio.wait(self._under_way, timeout=grace_s)
            for task in unfinished:
                task.cancel()
            if unfinished:
                log.warning("%d deliveries were dropped at the end", len(unfinished))
        await self._session.close()

    async def _deliver(self, subscription: Subscription, event: CloudEvent, hops: int) -> None:
        trigger = subscription.trigger
        answer = await self._insist(subscription.url, event, trigger.delivery, subscription.gate)
        if not answer.delivered:
            await self._bury(subscription, event, answer)
            return
        self.stats.delivered[event.type] += 1
        if answer.reply is not None and hops < _MOST_HOPS:
            self.accept(answer.reply, hops=hops + 1)

    async def _insist(self, url: str, event: CloudEvent, delivery: Delivery, gate: asyncio.Semaphore) -> Answer:
        """Attempts until one is delivered, none may follow, or none is left; the last answer."""
        failures = 0
        while True:
            async with gate:
                answer = await self._attempt(url, event, delivery.timeout_s)
            if answer.delivered or not answer.may_be_tried_again or failures == delivery.retry:
                return answer
            failures += 1
            self.stats.retried[event.type] += 1
            await asyncio.sleep(delivery.pause_s(failures) * self._backoff_scale)

    async def _attempt(self, url: str, event: CloudEvent, timeout_s: float) -> Answer:
        headers = {"content-type": "", **event.headers(), "prefer": "reply"}
        if not headers["content-type"]:
            del headers["content-type"]
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(
                url,
                data=event.data,
                headers=headers,
                skip_auto_headers=("content-type",),
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
                return _judge(answer.status, {k.lower(): v for k, v in answer.headers.items()}, body)
        except (TimeoutError, aiohttp.ClientError) as error:
            return Answer(status=500, body=f"dispatch error: {type(error).__name__} {error}".encode())

    async def _bury(self, subscription: Subscription, event: CloudEvent, answer: Answer) -> None:
        self.stats.dead[event.type] += 1
        trigger = subscription.trigger
        log.warning("%s %s: %s answered %d", event.type, event.attributes["id"], trigger.name, answer.status)
        dead = event.with_attributes(
            knativeerrordest=subscription.url,
            knativeerrorcode=str(answer.status),
            knativeerrordata=base64.b64encode(answer.body).decode()[:_MOST_ERROR_CHARACTERS],
        )
        with self._dead_letters.open("a") as lines:
            lines.write(json.dumps(dead.as_json()) + "\n")
        sink = self._services.get(trigger.delivery.dead_letters or "")
        if sink is not None:
            last = await self._insist(sink, dead, trigger.delivery, asyncio.Semaphore())
            if not last.delivered:
                log.error("the dead letter sink %s answered %d", sink, last.status)


def _judge(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    if not 200 <= status < 300:
        return Answer(status=status, body=body)
    if cloudevent.is_event(headers):
        try:
            return Answer(status=status, reply=cloudevent.read(headers, body))
        except cloudevent.Malformed as error:
            return Answer(status=502, body=str(error).encode())
    if body:
        return Answer(status=502, body=b"a non-empty answer that is no CloudEvent: " + body)
    return Answer(status=status)
