"""Whether this process lives, and whether what it needs is there. Probed often, so nothing here waits long."""

import asyncio
from collections.abc import Callable
from typing import Literal

import pg8000.native
import redis
from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import make_url

from functions.config import config

router = APIRouter(tags=["health"])
TIMEOUT_S = 2


class Alive(BaseModel):
    """This process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """`parts` says for each part `ok`, or what is wrong with it."""

    status: Literal["ok", "not_ready"]
    parts: dict[str, str]


@router.get("/healthz")
async def healthz() -> Alive:
    """Whether this process answers at all; says nothing of what stands behind it."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "a part is not there; the body says which"}})
async def readyz(response: Response) -> Readiness:
    """Whether Postgres and Redis answer within two seconds."""
    said = await asyncio.gather(_part(_postgres), _part(_redis))
    parts = dict(zip(("postgres", "redis"), said, strict=True))
    ready = all(word == "ok" for word in said)
    response.status_code = 200 if ready else 503
    response.headers["Cache-Control"] = "no-store"
    return Readiness(status="ok" if ready else "not_ready", parts=parts)


async def _part(look: Callable[[], None]) -> str:
    try:
        await asyncio.wait_for(asyncio.to_thread(look), TIMEOUT_S)
    except TimeoutError:
        return f"does not answer within {TIMEOUT_S} s"
    except (pg8000.native.InterfaceError, redis.RedisError, OSError) as error:
        return f"cannot be reached: {error.__class__.__name__}"
    except pg8000.native.DatabaseError as error:
        return f"refuses us: {error.args[0].get('M') if error.args and isinstance(error.args[0], dict) else 'error'}"
    return "ok"


def _postgres() -> None:
    # A connection of its own: a busy pool must not make a working process look dead.
    url = make_url(config().need("database_url"))
    connection = pg8000.native.Connection(
        user=url.username or "",
        password=url.password,
        host=url.host or "localhost",
        port=url.port or 5432,
        database=url.database,
        timeout=TIMEOUT_S,
    )
    try:
        connection.run("SELECT 1")
    finally:
        connection.close()


def _redis() -> None:
    with redis.Redis.from_url(
        config().need("redis_url"), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
    ) as client:
        client.ping()
