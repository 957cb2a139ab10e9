"""A proxy that hangs up: what a broken transfer is to whoever reads through it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


@contextmanager
def cutting_proxy(target_url: str, *, after_bytes: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """An address that leads to the target, and how often it hung up: whenever an answer passes so many bytes."""
    target, cuts = urlsplit(target_url), 0

    def answer(client: socket.socket, server: socket.socket) -> None:
        nonlocal cuts
        left = after_bytes
        with client, server, suppress(OSError):
            while left > 0 and (data := server.recv(min(left, 1 << 16))):
                client.sendall(data)
                left -= len(data)
            cuts += left <= 0
            for side in (client, server):  # closing alone says nothing while the other thread still listens
                side.shutdown(socket.SHUT_RDWR)

    def ask(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = door.accept()
                server = socket.create_connection((target.hostname, target.port))
                for talk in (ask, answer):
                    threading.Thread(target=talk, args=(client, server), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=accept, daemon=True).start()
        yield f"{target.scheme}://127.0.0.1:{door.getsockname()[1]}", lambda: cuts
        door.shutdown(socket.SHUT_RDWR)
