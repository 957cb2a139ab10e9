"""The queue from the operator's command line: looked at, paused, drained, and a user held back."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import Result
from live import Stack, eventually
from typer.testing import CliRunner

from functions.adapters import controls, postgres, queue
from functions.config import config
from functions.ctl import app
from functions.domain.job import State

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture(autouse=True)
def working_afterwards(user: str) -> Iterator[None]:
    """Whatever is ordered here is taken back."""
    yield
    with postgres.transaction() as tx:
        for pool in config().pool_names:
            controls.resume(tx, pool)
        controls.unblock(tx, user)


def vsgen(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["queue", *map(str, arguments)])


def said(*arguments: object) -> Any:
    result = vsgen(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_paused_pool_is_shown_with_who_ordered_it_and_why_and_starts_nothing(stack: Stack, user: str) -> None:
    assert said("pause", "default", "--reason", "fans") == {"paused": ["default"]}
    job_id = stack.speaking_for(user).ask(stack.request())
    eventually(lambda: queue.standing("default", job_id))
    [pool] = said("show")["pools"]
    assert (pool["mode"], pool["closed"], pool["waiting"], pool["parked"]) == ("paused", ["operator"], 0, 1)
    assert (pool["order"]["reason"], pool["order"]["by"]) == ("fans", config().operator_name)
    assert "fans" in vsgen("show").stdout
    assert said("resume", "--all") == {"resumed": ["default"]}
    stack.wait(job_id, State.AWAITING_REVIEW)
    assert [(one["act"], one["subject"]) for one in said("acts", "--limit", 2)["acts"]] == [
        ("resume", "default"),
        ("pause", "default"),
    ]


def test_an_order_outlives_a_redis_that_is_emptied(stack: Stack, user: str) -> None:
    said("pause", "--all", "--reason", "fans")
    queue.client().flushall()
    eventually(lambda: queue.closed("default") == {"operator"})
    job_id = stack.speaking_for(user).ask(stack.request())
    eventually(lambda: (found := queue.standing("default", job_id)) and found.where == "parked")
    said("resume", "default")
    stack.wait(job_id, State.AWAITING_REVIEW)


def test_a_drained_pool_takes_nothing_new(stack: Stack, user: str) -> None:
    said("drain", "default", "--reason", "it moves")
    job_id = stack.speaking_for(user).ask(stack.request())
    eventually(lambda: job_id in vsgen("watch", "--since", "1m", "--job", job_id, "--count", 1).stdout)
    assert stack.job(job_id) is None
    assert stack.balance(user) == 100


def test_a_blocked_user_is_listed_and_let_go(stack: Stack, user: str) -> None:
    said("block", user, "--reason", "floods us")
    assert [(one["user_id"], one["reason"]) for one in said("show")["blocked"]] == [(user, "floods us")]
    assert "floods us" in vsgen("show").stdout
    said("unblock", user)
    assert said("show")["blocked"] == []


def test_an_order_that_hurts_wants_its_reason_and_nothing_is_chosen_by_saying_nothing() -> None:
    for wrong in (
        ("pause", "default"),
        ("drain", "--all"),
        ("block", uuid.uuid4().hex),
        ("pause", "--reason", "x"),
        ("pause", "default", "--all", "--reason", "x"),
    ):
        assert vsgen(*wrong).exit_code == 2, wrong
    unknown = vsgen("pause", "moon", "--reason", "x")
    assert unknown.exit_code == 1
    assert "there is no pool 'moon'" in str(unknown.exception)
    assert said("show")["pools"][0]["mode"] == "working"
