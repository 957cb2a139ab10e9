import os
import socket
import stat
from pathlib import Path

import pytest

from functions.stack import state
from functions.stack.state import AlreadyRunning, State


def test_a_service_keeps_its_port_from_one_run_to_the_next(folder: Path) -> None:
    with State(folder) as first:
        ports = {name: first.port(name) for name in ("postgres", "valkey", "s3")}
    assert len(set(ports.values())) == 3
    with State(folder) as second:
        assert {name: second.port(name) for name in ports} == ports


def test_a_port_that_a_stranger_has_taken_is_chosen_anew(folder: Path) -> None:
    with State(folder) as first:
        port = first.port("postgres")
    with socket.create_server(("127.0.0.1", port)), State(folder) as second:
        other = second.port("postgres")
        assert other != port
        assert second.port("postgres") == other


def test_a_second_stack_on_the_same_folder_is_told_of_the_first(folder: Path) -> None:
    with State(folder) as first:
        first.announce({"api_url": "http://127.0.0.1:1"})
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}") as refused:
            State(folder)
        assert refused.value.stack["api_url"] == "http://127.0.0.1:1"
        assert state.running(folder) == refused.value.stack
    assert state.running(folder) is None


def test_a_folder_nobody_has_used_runs_nothing(tmp_path: Path) -> None:
    assert state.running(tmp_path / "absent") is None


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(folder: Path) -> None:
    with State(folder) as first:
        secret = first.secret("valkey")
    with State(folder) as second:
        assert second.secret("valkey") == secret
    assert stat.S_IMODE((folder / "secrets" / "valkey").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
