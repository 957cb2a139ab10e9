"""The house, running: one stack of real servers for the whole test session, and the hands to play with it.

Nothing here is a mock: Postgres, Valkey, S3, the Broker, the functions and the runners are processes of their own, and
ComfyUI's stand-in is held to recorded traces (`tests/standin`). Tests share the stack, so each takes users and jobs of
its own (`user`, `job_id`).
"""

import itertools
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Stack, bare_environment

from functions.stack.house import House


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """The whole stack, on a state folder of its own. Settings of the caller's do not leak in."""
    root = Path(tempfile.mkdtemp(prefix="visionsuit-generator-"))
    root.chmod(0o711)  # under root, Postgres runs as another user, who must get to its data
    with House(root, gpus=2, step_ms=15, environ=bare_environment()) as house:
        yield house
    shutil.rmtree(root)


@pytest.fixture
def stack(house: House) -> Iterator[Stack]:
    """The running stack, its ComfyUI well-behaved again afterwards."""
    stack = Stack(house)
    yield stack
    stack.behave(clear=True, step_ms=15)


_numbers = itertools.count(1)


@pytest.fixture
def user(stack: Stack) -> str:
    """A curator of this test's own, with 100 credits."""
    name = f"user-{next(_numbers)}"
    stack.grant(name, 100)
    return name


@pytest.fixture
def job_id() -> str:
    """An id for a job of this test's own."""
    return f"job-{uuid.uuid4().hex[:12]}"
