"""A stand-in of its own for each test that wants one, and one shared by the tests that only look.

With COMFYUI_URL set, `comfy` is that server instead; its queue and history are left alone.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from comfy_server import Comfy, furnish, start

#: Read when tests are collected: a running stack adds the address of its own stand-in to the environment later.
REAL = os.environ.get("COMFYUI_URL")


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Callable[..., Comfy]]:
    """Start stand-ins, in the same furnished base directory; all are ended with the test."""
    furnish(tmp_path)
    started: list[Comfy] = []

    def begin(*options: str) -> Comfy:
        started.append(start(tmp_path, *options))
        return started[-1]

    yield begin
    for comfy in started:
        if comfy.process is not None:
            comfy.process.kill()
            comfy.process.wait()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """One server for all tests that leave it as they found it: COMFYUI_URL, else a stand-in."""
    if REAL:
        yield Comfy(url=REAL.rstrip("/"))
        return
    base = tmp_path_factory.mktemp("comfy")
    furnish(base)
    comfy = start(base)
    yield comfy
    assert comfy.process is not None
    comfy.process.kill()
    comfy.process.wait()


@pytest.fixture
def comfy(shared: Comfy) -> Comfy:
    """The shared server, idle, with nothing cached; a stand-in also with an empty history."""
    if shared.base is not None:
        shared.post("/queue", {"clear": True})
        shared.post("/interrupt", {})
    shared.until_idle()
    if shared.base is not None:
        shared.post("/history", {"clear": True})
    shared.post("/free", {"free_memory": True})
    return shared
