"""The queue's Lua scripts, and the connection to Redis that they run on."""

import hashlib
import threading
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from functions.config import config

SCRIPTS = Path(__file__).parent / "lua"
SHARED = ("pool", "line")  # what every script of a pool begins with
ALONE = ("take",)  # scripts of no pool


@cache
def client() -> Any:
    """The process's connection to Redis; one quick second try covers a connection that died while idle.

    `Any`, because redis-py types every answer as perhaps awaitable.
    """
    return redis.Redis.from_url(
        config().need("redis_url"),
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 1),
    )


class Script:
    """One of the scripts, after what those of a pool share; Redis is sent the text only when it does not know it."""

    def __init__(self, name: str) -> None:
        parts = (name,) if name in ALONE else (*SHARED, name)
        self.text = "".join((SCRIPTS / f"{part}.lua").read_text() for part in parts)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self._call = ("EVALSHA", self.digest, 1)

    def __call__(self, *args: object) -> Any:
        try:
            return ask(*self._call, *args)
        except redis.exceptions.NoScriptError:
            return client().execute_command("EVAL", self.text, 1, *args)


script = cache(Script)


class _Wires(threading.local):
    """Each thread's own connection, as the client's pool would make it."""

    client: Any = None
    wire: Any = None


_wires = _Wires()


def ask(*parts: object) -> Any:
    """What Redis answers to one command.

    redis-py's own way to it, through its pool, hooks and statistics, takes longer than any of the scripts; what it
    reads, how it reconnects and its second try are kept.
    """
    if _wires.client is not client():
        pool = client().connection_pool
        _wires.wire = pool.connection_class(**pool.connection_kwargs)
        _wires.client = client()
    wire = _wires.wire
    packed = b"*%d\r\n%b" % (len(parts), b"".join(map(_bulk, parts)))

    def said() -> Any:
        wire.send_packed_command((packed,))
        return wire.read_response()

    try:
        return wire.retry.call_with_retry(said, lambda _: wire.disconnect())
    except redis.exceptions.ResponseError:
        raise
    except BaseException:
        wire.disconnect()  # an answer that nobody read must not be taken for the next one's
        raise


def _bulk(part: object) -> bytes:
    """A string of the protocol (RESP)."""
    text = str(part).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)
