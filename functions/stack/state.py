"""The state folder: all the local stack keeps between two runs, and the lock that lets one run at a time.

lock            held for as long as a stack runs on this folder
stack.json      where the running stack is reached
ports.json      the loopback ports, chosen once so that URLs survive a restart
secrets/        generated passwords, readable by their owner only
log/  run/      one log and one pid file a service
"""

import fcntl
import json
import os
import random
import secrets
import socket
from pathlib import Path
from typing import IO, Self

from functions.stack import process

_PORTS = range(20_000, 30_000)
"""Below those Linux lends to outgoing connections (32768 up): a restarting server must find its own free."""


class AlreadyRunning(Exception):
    """Another stack holds this state folder; `stack` is what it wrote to stack.json, empty if nothing yet."""

    def __init__(self, root: Path, stack: dict[str, object]) -> None:
        where = f" (pid {stack['pid']})" if "pid" in stack else ""
        super().__init__(f"a stack already runs on {root}{where}; stop it, or choose another state folder")
        self.stack = stack


class State:
    """An open, locked state folder. Close it, or end the process, to let the next stack in."""

    def __init__(self, root: Path) -> None:
        """Make the folder if need be, lock it, and end what a killed stack left running there.

        AlreadyRunning when another stack holds it; PermissionError when it belongs to somebody else.
        """
        self.root = root.resolve()
        # Others may pass but not look: under root, PostgreSQL is another user and must get to its data.
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._lock: IO[bytes] = (self.root / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise AlreadyRunning(self.root, _read(self.root / "stack.json")) from None
        (self.root / "stack.json").unlink(missing_ok=True)
        for pid_file in self.folder("run").glob("*.json"):
            process.reap(pid_file)
        self._fresh: set[str] = set()

    def close(self) -> None:
        (self.root / "stack.json").unlink(missing_ok=True)
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def announce(self, stack: dict[str, object]) -> None:
        """Tell whoever asks with `running` where this stack is reached; the pid is added."""
        _write(self.root / "stack.json", {"pid": os.getpid(), **stack})

    def folder(self, name: str) -> Path:
        """A folder for us alone, made on first use."""
        path = self.root / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def log(self, name: str) -> Path:
        return self.folder("log") / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        return self.folder("run") / f"{name}.json"

    def secret(self, name: str) -> str:
        """A random password of 32 hexadecimal digits, generated once and kept with mode 0600."""
        path = self.folder("secrets") / name
        if not path.exists():
            unfinished = path.with_name(f".{name}")
            unfinished.touch(mode=0o600)
            unfinished.write_text(secrets.token_hex(16))
            unfinished.rename(path)
        return path.read_text()

    def port(self, name: str) -> int:
        """The loopback port of this service: the one it had, or a new one if a stranger listens there now."""
        known = {key: int(str(value)) for key, value in _read(self.root / "ports.json").items()}
        if name not in known or (name not in self._fresh and not _free(known[name])):
            others = set(known.values())
            known[name] = next(p for p in _shuffled(_PORTS) if p not in others and _free(p))
            _write(self.root / "ports.json", known)
        self._fresh.add(name)
        return known[name]


def running(root: Path) -> dict[str, object] | None:
    """What the stack running on this folder announced, {} if it has not yet, None if none runs."""
    try:
        with (root / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _read(root / "stack.json")
    return None


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that just ended leaves TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _shuffled(ports: range) -> list[int]:
    return random.sample(ports, len(ports))  # two stacks starting at once should not meet


def _read(path: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return found


def _write(path: Path, facts: object) -> None:
    """Replace the file whole: a reader or a crash never sees half of it."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(facts, indent=2) + "\n")
    unfinished.rename(path)
