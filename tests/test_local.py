"""The commands a newcomer types, as they type them: `make run` and `make demo` are these two modules' words."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from live import bare_environment, eventually

from functions.stack import state
from functions.stack.platform import CoreAPI

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A state folder that Postgres may enter, also as another user."""
    path = Path(tempfile.mkdtemp(prefix="visionsuit-generator-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def local(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    """`python -m functions.local`, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "functions.local", *arguments, "--state", str(folder)],
        cwd=ROOT,
        env=bare_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def platform(folder: Path) -> CoreAPI:
    """The platform beside the stack that runs on this folder, once it is up."""
    told = eventually(lambda: (found := state.running(folder)) and "api_url" in found and found, within_s=60)
    return CoreAPI(
        api_url=told["api_url"], broker_url=told["broker_url"], secret=(folder / "secrets" / "service").read_text()
    )


def left(folder: Path) -> list[str]:
    """The command lines of processes that have to do with this folder."""
    lines = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = " ".join(process.info["cmdline"] or []) + " ".join((process.info["environ"] or {}).values())
        if str(folder) in words:
            lines.append(" ".join(process.info["cmdline"] or []))
    return lines


def test_the_demo_ends_with_a_completed_job_and_says_so_in_its_last_line(folder: Path) -> None:
    fields = (
        "--prompt",
        "herons; 'quoted'\nand ünïcode 🪿",
        "--width",
        "64",
        "--height",
        "64",
        "--steps",
        "2",
        "--seed",
        "7",
    )
    demo = local("demo", *fields, folder=folder)
    said, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, said
    result = json.loads(said.splitlines()[-1])
    assert result["state"] == "completed"
    assert result["attempts"] == 1
    assert result["credits"] == 1
    assert [picture["collection_id"] for picture in result["artifacts"]] == ["first-pictures"]
    assert left(folder) == []


def test_a_stack_killed_in_the_middle_of_a_job_goes_on_where_it_was(folder: Path) -> None:
    first = local("run", folder=folder)
    core_api = platform(folder)
    job_id = core_api.ask(
        {"prompt": "a long one", "model": "meadow-sd15.safetensors", "steps": 60, "width": 64, "height": 64}
    )
    eventually(lambda: (core_api.job(job_id) or {}).get("state") == "in_progress", within_s=60)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    eventually(lambda: left(folder) == [])

    second = local("run", folder=folder)
    core_api = platform(folder)
    job: dict[str, Any] = eventually(
        lambda: (j := core_api.job(job_id)) and j["state"] == "awaiting_review" and j, within_s=60
    )
    assert job["attempt"] == 2
    assert len(job["artifacts"]) == 1
    assert [entry["change"] for entry in job["transactions"]] == [-job["credits"]]

    demo = local("demo", "--width", "7", folder=folder)  # a stack is running: the demo uses it
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert json.loads(said.splitlines()[-1])["state"] == "rejected"
    assert "width" in said

    third = local("run", folder=folder)
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 1
    assert "already runs" in said

    os.killpg(second.pid, signal.SIGINT)
    said, _ = second.communicate(timeout=30)
    assert second.returncode == 0, said
    assert left(folder) == []
