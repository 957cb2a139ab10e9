"""Who the local stack speaks to in its tests: a real HTTP server that answers as told, and the patience to wait."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def eventually(true: Callable[[], object], *, within_s: float = 15.0) -> None:
    """Wait for something to become true; the limit only ends a test that would wait for ever."""
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "it never became true"
        time.sleep(0.01)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the neighbour answers, once `slow_s` have passed and `gate` is open."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    slow_s: float = 0.0
    gate: threading.Event | None = None


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A POST it got; header names in lower case."""

    headers: dict[str, str]
    body: bytes


class Neighbour:
    """Remembers by path what it hears, and answers by path what it was told to say, then 204."""

    def __init__(self) -> None:
        self.says: dict[str, list[Said]] = defaultdict(list)
        self.heard: dict[str, list[Heard]] = defaultdict(list)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def wait(self, path: str, *, count: int = 1) -> list[Heard]:
        eventually(lambda: len(self.heard[path]) >= count)
        return self.heard[path]

    def forget(self) -> None:
        self.says.clear()
        self.heard.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(neighbour: Neighbour) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            neighbour.heard[self.path].append(Heard(headers=headers, body=body))
            said = neighbour.says[self.path].pop(0) if neighbour.says[self.path] else Said()
            time.sleep(said.slow_s)
            if said.gate:
                said.gate.wait()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.status != 204:
                self.send_header("content-length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        def handle(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked did not wait for the answer
                super().handle()

        def log_message(self, *_: object) -> None:
            """Tests read `heard` instead."""

    return Handler
