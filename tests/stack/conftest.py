"""One set of real servers for all tests of the local stack, and a small HTTP neighbour."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from neighbour import Neighbour
from servers import Servers

from functions.stack import postgres, s3, valkey
from functions.stack.state import State
from functions.stack.supervisor import Supervisor


@pytest.fixture(scope="session")
def make_folder() -> Iterator[Callable[[], Path]]:
    """Fresh folders that other users may pass through: pytest's own are closed to PostgreSQL's user under root."""
    made = []

    def make() -> Path:
        path = Path(tempfile.mkdtemp(prefix="generator-test-"))
        path.chmod(0o711)
        made.append(path)
        return path

    yield make
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def folder(make_folder: Callable[[], Path]) -> Path:
    return make_folder()


@pytest.fixture(scope="session")
def servers(make_folder: Callable[[], Path]) -> Iterator[Servers]:
    with State(make_folder()) as state:
        parts = postgres.prepare(state), valkey.prepare(state), s3.prepare(state)
        with Supervisor() as supervisor:
            supervisor.start(*(part.service for part in parts))
            yield Servers(state, supervisor, *parts)


@pytest.fixture(scope="session")
def listening() -> Iterator[Neighbour]:
    """The neighbour for fixtures that live longer than a test; tests ask for `neighbour`."""
    neighbour = Neighbour()
    yield neighbour
    neighbour.close()


@pytest.fixture
def neighbour(listening: Neighbour) -> Neighbour:
    listening.forget()
    return listening
