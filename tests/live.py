"""A running house, as a test uses it: ask, wait, look, and kill."""

import os
import signal
import time
import uuid
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pytest
import requests

from functions.adapters import grants, jobs, ledger, postgres
from functions.config import SETTINGS
from functions.domain import transfer
from functions.domain.job import Job, State
from functions.stack.house import House
from functions.stack.platform import CoreAPI

TESTER = grants.Admin(user_id="a test", instruction="a test")
SMALL = {"width": 64, "height": 64, "steps": 4}


class Stack:
    """A running house, as a test uses it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.api_url = house.api_url
        self.model = str(house.seeded and house.seeded.default_model)

    @property
    def platform(self) -> CoreAPI:
        return self.house.platform

    def speaking_for(self, user: str, role: str = "CURATOR") -> CoreAPI:
        return self.platform.speaking_for(user, role)

    def sign(self, user: str, role: str = "CURATOR") -> str:
        """A bearer token for the REST API."""
        return self.speaking_for(user, role).token

    def grant(self, user: str, amount: int) -> None:
        """Credits for a user, from the treasury."""
        with postgres.transaction() as tx:
            for part in (*repeat(500, amount // 500), amount % 500):  # an admin may give no more at once
                if part:
                    grants.give(tx, TESTER, user, part, id=uuid.uuid4().hex, reason="a test")

    def balance(self, user: str) -> int:
        with postgres.transaction() as tx:
            return ledger.balance(tx, transfer.account(user))

    def request(self, **fields: Any) -> dict[str, Any]:
        """A small, valid request, with these fields changed."""
        return {"prompt": "a heron at dawn", "model": self.model, **SMALL} | fields

    def job(self, job_id: str) -> Job | None:
        with postgres.transaction() as tx:
            return jobs.get(tx, job_id)

    def wait(self, job_id: str, *states: State, within_s: float = 40) -> Job:
        """The job, once it stands in one of these states."""
        return eventually(lambda: (job := self.job(job_id)) and job.state in states and job, within_s=within_s)

    def moves(self, job_id: str) -> list[tuple[State, int]]:
        """Where the job has been, oldest first, each with its attempt."""
        with postgres.transaction() as tx:
            return [(move.to_state, move.attempt) for move in jobs.history(tx, job_id)]

    def behave(self, **behaviour: Any) -> None:
        """Set how the ComfyUI stand-in behaves (`python -m functions.standin --help`)."""
        answer = requests.post(f"{self.house.comfyui_url}/standin/behaviour", json=behaviour, timeout=5)
        assert answer.ok, answer.text

    def kill(self, service: str) -> None:
        """kill -9 one of the stack's services; the supervisor will start it again."""
        os.kill(self.house.supervisor.pid(service), signal.SIGKILL)


def bare_environment() -> dict[str, str]:
    """This process's environment without any setting of ours: neither the caller's nor those of a running stack."""
    return {name: value for name, value in os.environ.items() if name.lower() not in SETTINGS}


def eventually(look: Callable[[], Any], *, within_s: float = 20) -> Any:
    """What `look` gives once it is true; fails with its last answer when the time is up."""
    until = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > until:
            pytest.fail(f"still {found!r} after {within_s:g} s")
        time.sleep(0.05)
    return found
