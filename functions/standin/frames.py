"""The websocket side: who is connected, who gets which frame, and how a picture travels in one.

Frames leave one by one through a single queue, as in the real server; so a client that does not read stops the frames
of all others while HTTP goes on.
"""

import asyncio
import json
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

PREVIEW_IMAGE = 1
PREVIEW_IMAGE_WITH_METADATA = 4
JPEG, PNG = 1, 2


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A picture on its way to a client. image: encoded bytes; image_format: JPEG or PNG; metadata: whose it is."""

    image: bytes
    image_format: int
    metadata: dict[str, Any] | None = None

    def encoded(self) -> bytes:
        """The binary frame, big-endian: event 4 (length, JSON, image) with metadata, else event 1 (format, image)."""
        if self.metadata is None:
            return struct.pack(">II", PREVIEW_IMAGE, self.image_format) + self.image
        told = json.dumps(self.metadata).encode()
        return struct.pack(">II", PREVIEW_IMAGE_WITH_METADATA, len(told)) + told + self.image


class Sockets:
    """Connected clients by the id they gave, and the frames on their way to them.

    client_id and node: whose prompt runs and in which node, for those who connect late.
    """

    def __init__(self, *, features: dict[str, Any], remaining: Callable[[], int], deaf: Callable[[], bool]) -> None:
        self.client_id: Any = None
        self.node: str | None = None
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._flags: dict[str, dict[str, Any]] = {}
        self._transports: set[asyncio.WriteTransport] = set()
        self._queue: asyncio.Queue[tuple[str, Any, Any]] = asyncio.Queue()
        self._features = features
        self._remaining = remaining
        self._deaf = deaf

    def send(self, event: str, data: Any, client_id: Any) -> None:
        """Queue a frame for one client, or for all when client_id is None."""
        self._queue.put_nowait((event, data, client_id))

    def status(self) -> None:
        """Tell everyone how many prompts are waiting or running."""
        self.send("status", self._status(), None)

    def wants_metadata(self, client_id: Any) -> bool:
        """Whether a client said in its first message that it understands event 4."""
        return self._flags.get(client_id, {}).get("supports_preview_metadata") is True

    async def publish(self) -> None:
        """Send queued frames for ever. A client_id that is no string ends this, and with it the process."""
        while True:
            event, data, client_id = await self._queue.get()
            if client_id is None:
                targets = list(self._sockets.values())
            else:
                targets = [self._sockets[client_id]] if client_id in self._sockets else []
            if not self._deaf():
                for socket in targets:
                    await self._deliver(socket, event, data)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one socket until it closes.

        A second socket with the same id takes over; when the first then closes, the id is forgotten and the second
        is deaf, as recorded.
        """
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query.get("clientId", "")
        if client_id:
            self._sockets.pop(client_id, None)
        else:
            client_id = uuid.uuid4().hex
        self._sockets[client_id] = socket
        self._flags[client_id] = {}
        transport = request.transport
        if isinstance(transport, asyncio.WriteTransport):
            self._transports.add(transport)
        try:
            await self._deliver(socket, "status", self._status() | {"sid": client_id})
            if self.client_id == client_id and self.node is not None:
                await self._deliver(socket, "executing", {"node": self.node})
            first = True
            async for message in socket:
                if message.type == aiohttp.WSMsgType.TEXT and first:
                    first = False
                    await self._hello(client_id, socket, message.data)
        finally:
            self._sockets.pop(client_id, None)
            self._flags.pop(client_id, None)
            self._transports.discard(transport)
        return socket

    def cut(self) -> None:
        """Cut every socket's TCP connection, without a close frame."""
        for transport in self._transports:
            transport.abort()

    async def _hello(self, client_id: str, socket: web.WebSocketResponse, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            return
        if isinstance(message, dict) and message.get("type") == "feature_flags":
            self._flags[client_id] = message.get("data", {})
            await self._deliver(socket, "feature_flags", self._features)

    def _status(self) -> dict[str, Any]:
        return {"status": {"exec_info": {"queue_remaining": self._remaining()}}}

    async def _deliver(self, socket: web.WebSocketResponse, event: str, data: Any) -> None:
        try:
            if isinstance(data, Preview):
                await socket.send_bytes(data.encoded())
            else:
                await socket.send_json({"type": event, "data": data})
        except (aiohttp.ClientError, ConnectionError):
            return  # the client is gone; its own handler forgets it
