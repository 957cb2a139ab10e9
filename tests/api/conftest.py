"""The REST API as its callers meet it: over HTTP, each with a token of their own."""

import dataclasses
from collections.abc import Callable

import pytest
from caller import Caller
from live import Stack

from functions.adapters import models, postgres
from functions.stack.house import House
from functions.stack.process import answers


@pytest.fixture
def calling_as(stack: Stack) -> Callable[..., Caller]:
    """A caller who speaks for this user."""
    return lambda user, role="CURATOR": Caller(stack.api_url, stack.sign(user, role))


@pytest.fixture
def caller(calling_as: Callable[..., Caller], user: str) -> Caller:
    """A curator of this test's own, with 100 credits."""
    return calling_as(user)


@pytest.fixture
def stranger(calling_as: Callable[..., Caller], user: str) -> Caller:
    """Another curator."""
    return calling_as(f"{user}-stranger")


@pytest.fixture
def gone(stack: Stack) -> str:
    """A model that is on offer and whose file is not in the store: whatever asks for it fails for good."""
    name = "zz-gone.safetensors"
    with postgres.transaction() as tx:
        known = models.Model(
            kind=models.CHECKPOINTS, name=name, object_key=f"checkpoints/{name}", sha256=None, size_bytes=None
        )
        models.register(tx, [known])
    return name


@pytest.fixture(scope="session")
def without_redis(house: House) -> str:
    """The address of an api function whose Redis is not there; all else is the house's own."""
    return another_api(house, "api-without-redis", REDIS_URL="redis://127.0.0.1:1/0")


def another_api(house: House, name: str, **settings: str) -> str:
    """The address of one more api function, with these settings of its own."""
    port = house.state.port(name)
    there = house.function("api")
    service = dataclasses.replace(
        there,
        name=name,
        argv=(*there.argv[:-1], str(port)),
        env=dict(there.env or {}) | settings,
        log=house.state.log(name),
        pid_file=house.state.pid_file(name),
        ready=answers(f"http://127.0.0.1:{port}/healthz"),
    )
    house.supervisor.start(service)
    return f"http://127.0.0.1:{port}"
