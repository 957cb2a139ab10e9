"""vsgen credits and vsgen ledger: what an operator types, and what the exit code says of it."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from live import Stack, eventually
from making import a_job
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from functions.adapters import jobs, postgres
from functions.config import config
from functions.ctl import app
from functions.domain.errors import InsufficientCredits, Rejected
from functions.domain.job import State

As = Callable[..., None]


@pytest.fixture
def acting_as(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[As]:
    """Who gives vsgen's orders from now on; olga, until somebody else does."""

    def become(name: str, role: str = "ADMIN") -> None:
        monkeypatch.setenv("ADMIN_TOKEN", stack.sign(name, role))
        config.cache_clear()

    become("olga")
    yield become
    monkeypatch.undo()
    config.cache_clear()


@pytest.fixture
def ann(acting_as: As) -> str:
    """A user nobody has heard of, while olga gives the orders."""
    return f"ann-{uuid.uuid4().hex[:8]}"


def vsgen(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def said(*arguments: object, exit_code: int = 0) -> dict[str, Any]:
    """What vsgen says to a machine."""
    result = vsgen(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_grant_is_done_when_the_command_returns_and_stands_in_the_statement(stack: Stack, ann: str) -> None:
    result = vsgen("credits", "grant", ann, 80, "--reason", "welcome")
    assert result.exit_code == 0, result.output
    assert f"of +80 credits for user:{ann} is done" in result.output
    assert said("credits", "balance", ann)["balance"] == 80
    told = vsgen("credits", "statement", ann).output.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d +\+80 +80 +granted: welcome", told[0])
    assert told[-1] == f"{ann} holds 80 credits"


def test_a_large_grant_waits_for_another_admin(acting_as: As, ann: str) -> None:
    asked = said("credits", "grant", ann, 900, "--reason", "a prize")
    assert asked["standing"] == "pending"
    assert asked["id"] in vsgen("credits", "grants", "--open").output
    with pytest.raises(Rejected, match="another admin must approve"):
        raise_of(vsgen("credits", "approve", asked["id"]))
    acting_as("pete")
    assert said("credits", "approve", asked["id"])["standing"] == "done"
    assert said("credits", "grants", "--user", ann)["grants"][0]["approved_by"] == "pete"
    refused = said("credits", "grant", ann, 900, "--reason", "another")
    assert said("credits", "refuse", refused["id"], "--reason", "enough")["standing"] == "refused"
    assert said("credits", "balance", ann)["balance"] == 900


def raise_of(result: Result) -> None:
    """What the command ended in; `main` says it in one line and exits with 1."""
    assert result.exit_code == 1
    if result.exception:
        raise result.exception


def test_what_is_not_there_cannot_be_revoked_unless_less_will_do(ann: str) -> None:
    said("credits", "grant", ann, 30, "--reason", "r")
    with pytest.raises(InsufficientCredits):
        raise_of(vsgen("credits", "revoke", ann, 31, "--reason", "r"))
    assert said("credits", "revoke", ann, 31, "--reason", "r", "--up-to")["amount"] == -30
    assert said("credits", "balance", ann)["balance"] == 0


def test_only_an_admin_gives_orders(acting_as: As, ann: str) -> None:
    acting_as(ann, "CURATOR")
    for order in (("grant", ann, 5), ("revoke", ann, 5, "--up-to")):
        with pytest.raises((Rejected, InsufficientCredits)) as no:
            raise_of(vsgen("credits", *order, "--reason", "r"))
        assert isinstance(no.value, InsufficientCredits) or no.value.code == "role_not_allowed"
    with pytest.raises(Rejected, match="admins may"):
        raise_of(vsgen("credits", "pool", "create", "mine"))


def test_a_file_is_rehearsed_then_done_and_the_second_time_known(stack: Stack, ann: str, tmp_path: Path) -> None:
    file = tmp_path / "march.csv"
    file.write_text(f"user_id,credits,reason\n{ann},40,\n{ann},-15,a slip\n{ann},900,\n")
    adjust = ("credits", "adjust", "--file", file, "--reason", "March")
    rehearsed = said(*adjust, "--dry-run")
    assert rehearsed["counts"] == {"approved": 2, "pending": 1, "known": 0, "short": 0}
    assert stack.balance(ann) == 0
    assert [one["outcome"] for one in said(*adjust)["lines"]] == ["approved", "approved", "pending"]
    eventually(lambda: stack.balance(ann) in (25, 40))
    assert said(*adjust)["counts"]["known"] == 3
    eventually(lambda: said("credits", "grants", "--user", ann)["grants"][1]["standing"] in ("done", "failed"))


def test_a_line_that_cannot_be_done_is_told_and_is_the_exit_code(ann: str, tmp_path: Path) -> None:
    file = tmp_path / "march.csv"
    file.write_text(f"user_id,credits\n{ann},-5\n")
    told = said("credits", "adjust", "--file", file, "--reason", "March", exit_code=1)
    assert [(one["outcome"], one["detail"]) for one in told["lines"]] == [("short", "it holds 0")]


def test_a_statement_goes_into_a_spreadsheet(stack: Stack, ann: str) -> None:
    stack.grant(ann, 5)
    told = vsgen("credits", "statement", ann, "--csv").stdout.splitlines()
    assert told[0].startswith("at,about,change,balance")
    assert "granted: a test" in told[1]


def test_a_team_is_made_and_its_members_capped(ann: str) -> None:
    team = f"team-{uuid.uuid4().hex[:8]}"
    assert said("credits", "pool", "create", team, "--name", "Herons")["balance"] == 0
    said("credits", "grant", f"pool:{team}", 20, "--reason", "a start")
    assert said("credits", "pool", "add", team, ann, "--day", 5)["caps"] == {"day": 5}
    assert "0 of 5" in vsgen("credits", "pool", "members", team).output
    assert said("credits", "pool", "add", team, ann, "--month", 50)["caps"] == {"day": 5, "month": 50}
    assert team in vsgen("credits", "pool", "list").output
    said("credits", "pool", "remove", team, ann)
    assert said("credits", "pool", "members", team)["members"] == []
    assert said("credits", "pool", "close", team)["closed_at"]


def test_a_book_that_is_right_is_said_to_be(stack: Stack, ann: str) -> None:
    stack.grant(ann, 5)
    result = vsgen("ledger", "verify")
    assert result.exit_code == 0, result.output
    assert "all right" in result.output


def test_a_book_that_somebody_wrote_into_is_named_and_is_the_exit_code(stack: Stack, ann: str) -> None:
    stack.grant(ann, 5)
    cook = text("UPDATE generator_credit_account SET balance = balance + :by WHERE id = :id")
    superuser = create_engine(str(stack.house.admin_database_url))
    try:
        with superuser.begin() as tx:
            tx.execute(cook, {"by": 100, "id": f"user:{ann}"})
        result = vsgen("ledger", "verify")
        assert result.exit_code == 1
        assert f"user:{ann}" in result.output
        assert "+100" in result.output
    finally:
        with superuser.begin() as tx:
            tx.execute(cook, {"by": -100, "id": f"user:{ann}"})
        superuser.dispose()


def test_an_export_is_whole_or_not_there(stack: Stack, tmp_path: Path, ann: str) -> None:
    file = tmp_path / "ledger.jsonl"
    result = vsgen("ledger", "export", "--out", file)
    assert result.exit_code == 0, result.output
    end = json.loads(file.read_text().splitlines()[-1])
    assert json.loads(result.stdout) == end
    assert (end["line"], end["imbalance"]) == ("end", 0)
    assert [one.name for one in tmp_path.iterdir()] == ["ledger.jsonl"]


def test_jobs_and_credits_that_do_not_agree_are_named_and_are_the_exit_code(stack: Stack, ann: str) -> None:
    job = a_job(id=f"0-{uuid.uuid4().hex}", user_id=ann)  # among the first that are told, whatever other tests left
    with postgres.transaction() as tx:
        jobs.add(tx, job)
        jobs.save(tx, job.to(State.DEBITED, changed_at=datetime.now(UTC)))  # past the till
    told = said("ledger", "reconcile", exit_code=1)
    [wrong] = [one for one in told["discrepancies"] if one["job_id"] == job.id]
    assert wrong["kind"] == "unpaid_render"
    assert "unpaid_render" in vsgen("ledger", "reconcile", "--days", 1).output
