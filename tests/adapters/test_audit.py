"""The audit stream: every move and every act in one line, without prompts, and nobody waits for it."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import takewhile

import pytest
from live import Stack, eventually
from making import NOW
from typer.testing import CliRunner

from functions.adapters import acts, audit, postgres, queue
from functions.adapters.audit import Entry
from functions.config import config
from functions.ctl import app
from functions.domain import event
from functions.domain.event import BY_TYPE
from functions.domain.job import State

pytestmark = pytest.mark.usefixtures("stack")
PROMPT = "a heron nobody may read of"
RECENT = timedelta(minutes=10)


def lines() -> list[Entry]:
    """What the stream holds of the last minutes."""
    return [one for one in takewhile(bool, audit.follow(since=RECENT)) if one]


def of(job_id: str) -> list[Entry]:
    return [one for one in lines() if one.about.get("job_id") == job_id]


def test_every_move_of_a_job_has_its_line_and_none_holds_what_was_asked(stack: Stack, user: str) -> None:
    core_api = stack.speaking_for(user)
    job_id = core_api.ask(stack.request(prompt=PROMPT, negative_prompt=PROMPT))
    stack.wait(job_id, State.AWAITING_REVIEW)
    core_api.decide(job_id, f"{job_id}-00", "discard")
    stack.wait(job_id, State.COMPLETED)
    names = {f"job.{state}" for state, _ in stack.moves(job_id)}
    assert {"job.submitted", "job.debited", "job.queued", "job.in_progress", "job.completed"} <= names
    eventually(lambda: names <= {one.name for one in of(job_id)})
    assert PROMPT not in str(of(job_id))
    [moved] = [one for one in of(job_id) if one.name == "job.in_progress"]
    assert (moved.about["previous"], moved.about["state"], moved.about["attempt"], moved.about["user_id"]) == (
        *("dispatching", "in_progress", "1"),
        user,
    )
    assert moved.about["worker"]


def test_no_event_is_told_with_a_text_that_somebody_wrote() -> None:
    texts = {"prompt", "negative_prompt", "reason", "detail", "tags", "asked", "artifacts", "field"}
    for cls in BY_TYPE.values():
        assert not texts & set(audit.SHOWN), cls.name


def test_an_act_has_its_line(stack: Stack) -> None:
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    with postgres.transaction() as tx:
        acts.record(tx, by="user:root", act="pause", subject=pool, reason="fans")
    [line] = [one for one in lines() if one.about.get("subject") == pool]
    assert (line.name, line.about["by"], line.about["reason"]) == ("operator.pause", "user:root", "fans")


def test_what_was_undone_has_no_line(stack: Stack) -> None:
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    with pytest.raises(ZeroDivisionError), postgres.transaction() as tx:
        acts.record(tx, by="user:root", act="pause", subject=pool)
        raise ZeroDivisionError
    assert not [one for one in lines() if one.about.get("subject") == pool]


def test_the_stream_is_capped_and_a_batch_is_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LENGTH", 100)
    before = queue.client().info("commandstats").get("cmdstat_xadd", {}).get("calls", 0)
    audit.LOG.append([Entry(name="a.test", about={"job_id": "none"}) for _ in range(400)])
    assert queue.client().xlen(audit.STREAM) < 300
    assert queue.client().info("commandstats")["cmdstat_xadd"]["calls"] >= before + 400


@pytest.fixture
def without_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    config.cache_clear()
    queue.client.cache_clear()
    yield
    monkeypatch.undo()
    config.cache_clear()
    queue.client.cache_clear()


def test_without_redis_nobody_waits_and_the_next_lines_are_not_even_tried(
    without_redis: None, caplog: pytest.LogCaptureFixture
) -> None:
    log = audit.Log()
    told = event.JobQueued(job_id="x", attempt=1, user_id="u", previous="debited", state="queued", at=NOW)
    for _ in range(3):
        log.append([audit.entry(told)])
    assert [record.message for record in caplog.records if "audit" in record.message] == [
        "the audit stream misses 1 lines: ConnectionError"
    ]


def test_the_command_line_follows_it(stack: Stack, user: str) -> None:
    job_id = stack.speaking_for(user).ask(stack.request(prompt=PROMPT))
    stack.wait(job_id, State.AWAITING_REVIEW)
    eventually(lambda: len(of(job_id)) >= 5)

    def watch(*more: str) -> list[str]:
        said = CliRunner().invoke(app, ["queue", "watch", "--since", "10m", "--job", job_id, "--count", "4", *more])
        assert said.exit_code == 0, said.output
        return said.stdout.splitlines()

    told = [json.loads(line) for line in watch("--json")]
    assert [line["job_id"] for line in told] == [job_id] * 4
    assert {line["name"] for line in told} >= {"job.submitted", "job.debited"}
    assert all(job_id in line for line in watch())
