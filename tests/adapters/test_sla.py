"""How long jobs take, phase by phase: percentiles over known histories, each played in a transaction of its own."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from live import Stack
from making import a_job, a_report
from sqlalchemy import Connection, NullPool, create_engine, text
from typer.testing import CliRunner

from functions.adapters import jobs, outbox, postgres, sla
from functions.adapters.sla import Line, Span
from functions.ctl import app
from functions.domain.errors import Rejected
from functions.domain.job import State

BEGAN = datetime(2021, 5, 1, 12, tzinfo=UTC)
SPAN = Span(since=BEGAN - timedelta(days=1), until=BEGAN + timedelta(days=10))
TARGETS = {"CURATOR": 60.0, "LOW": 600.0}


@pytest.fixture
def tx(stack: Stack) -> Iterator[Connection]:
    engine = create_engine(str(stack.house.admin_database_url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.info[postgres.AFTER] = []
        yield connection


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def done(tx: Connection, *, waited_s: float, render_s: float, asked_s: float = 0, **fields: Any) -> None:
    """A job asked for at this second, that waited, was prepared in 2 s, painted, and uploaded in 1 s."""
    job = a_job(submitted_at=after(asked_s), changed_at=after(asked_s), **fields)
    jobs.add(tx, job)
    claimed_s = asked_s + waited_s
    ended_s = claimed_s + 2 + render_s + 1
    for state, at_s in (
        (State.DEBITED, asked_s),
        (State.QUEUED, asked_s),
        (State.DISPATCHING, claimed_s),
        (State.IN_PROGRESS, claimed_s + 2),
        (State.AWAITING_REVIEW, ended_s),
    ):
        job = job.to(state, changed_at=after(at_s), worker="w" if state is State.DISPATCHING else job.worker)
        jobs.save(tx, job)
    report(tx, job.id, attempt=1, render_ms=round(render_s * 1000))


def report(tx: Connection, job_id: str, *, attempt: int, render_ms: int) -> None:
    told = a_report(job_id, attempt=attempt, prepare_ms=2000, render_ms=render_ms, upload_ms=1000)
    outbox.put(tx, "/functions/render", [told])


def read(tx: Connection, *by: str, span: Span = SPAN) -> list[Line]:
    return sla.report(tx, span, by=by, targets_s=TARGETS)


def of(lines: list[Line], phase: str, **group: Any) -> Line:
    [found] = [
        line
        for line in lines
        if line.phase == phase and all(getattr(line, name) == value for name, value in group.items())
    ]
    return found


def percentiles(line: Line) -> tuple[int, ...]:
    return line.p50_ms, line.p90_ms, line.p95_ms, line.p99_ms


def test_percentiles_are_the_times_of_real_jobs_by_rank(tx: Connection) -> None:
    for n in range(1, 101):
        done(tx, waited_s=n, render_s=10)
    lines = read(tx)
    assert [line.phase for line in lines] == list(sla.PHASES)
    assert percentiles(of(lines, "wait")) == (50_000, 90_000, 95_000, 99_000)
    assert percentiles(of(lines, "prepare")) == (2000,) * 4
    assert percentiles(of(lines, "render")) == (10_000,) * 4
    assert percentiles(of(lines, "upload")) == (1000,) * 4
    assert percentiles(of(lines, "total")) == (63_000, 103_000, 108_000, 112_000)
    assert {line.jobs for line in lines} == {100}


def test_what_is_told_apart_is_what_was_asked_for(tx: Connection) -> None:
    done(tx, waited_s=1, render_s=1, role="CURATOR", pool="small", tags=("a", "b"))
    done(tx, waited_s=2, render_s=1, role="LOW", pool="big", asked_s=86_400)
    assert [(line.tier, line.jobs) for line in read(tx, "tier") if line.phase == "wait"] == [("CURATOR", 1), ("LOW", 1)]
    assert {line.pool for line in read(tx, "pool")} == {"small", "big"}
    days = {line.day for line in read(tx, "day")}
    assert days == {BEGAN.date(), (BEGAN + timedelta(days=1)).date()}
    assert {(line.tag, line.jobs) for line in read(tx, "tag")} == {("a", 1), ("b", 1), ("", 1)}
    both = of(read(tx, "tier", "pool", "day"), "total", tier="LOW")
    assert (both.pool, both.day, both.jobs) == ("big", (BEGAN + timedelta(days=1)).date(), 1)


def test_each_job_is_held_to_the_target_of_its_own_tier(tx: Connection) -> None:
    for waited_s in (10, 20, 100):
        done(tx, waited_s=waited_s, render_s=10, role="CURATOR")
    done(tx, waited_s=100, render_s=10, role="LOW")
    done(tx, waited_s=1, render_s=10, role="NOBODY")
    lines = read(tx, "tier")
    curator, low, nobody = (of(lines, "total", tier=tier) for tier in ("CURATOR", "LOW", "NOBODY"))
    assert (curator.target_s, curator.met, curator.ok) == (60, 0.6667, False)
    assert (low.target_s, low.met, low.ok) == (600, 1, True)
    assert (nobody.target_s, nobody.met, nobody.ok) == (None, None, None)
    whole = of(read(tx), "total")
    assert (whole.target_s, whole.met) == (None, 0.75)
    assert all(line.met is None for line in lines if line.phase != "total")


def test_the_backoff_before_a_retry_is_no_wait_and_the_total_goes_through_all_tries(tx: Connection) -> None:
    job = a_job(submitted_at=after(0), changed_at=after(0))
    jobs.add(tx, job)
    for state, at_s, changes in (
        (State.DEBITED, 0, {}),
        (State.QUEUED, 0, {}),
        (State.DISPATCHING, 5, {"worker": "w"}),
        (State.QUEUED, 20, {"cause": "timeout", "attempt": 2, "worker": None}),
        (State.DISPATCHING, 320, {"worker": "w"}),
        (State.IN_PROGRESS, 321, {}),
        (State.AWAITING_REVIEW, 330, {}),
    ):
        job = job.to(state, changed_at=after(at_s), **changes)  # type: ignore[arg-type]
        jobs.save(tx, job)
    report(tx, job.id, attempt=2, render_ms=7000)
    lines = read(tx)
    assert (of(lines, "wait").jobs, of(lines, "wait").p99_ms) == (1, 5000)
    assert of(lines, "total").p50_ms == 330_000
    assert of(lines, "render").p50_ms == 7000


def test_a_job_belongs_to_the_span_in_which_it_came_so_far(tx: Connection) -> None:
    done(tx, waited_s=10, render_s=100)
    early = Span(since=BEGAN, until=after(60))
    assert [line.phase for line in read(tx, span=early)] == ["wait"]
    assert read(tx, span=Span(since=after(3600), until=after(7200))) == []


def test_every_table_it_reads_it_reads_by_an_index(tx: Connection) -> None:
    done(tx, waited_s=10, render_s=100)
    tx.execute(text("SET LOCAL enable_seqscan = off"))
    asked = {f"by_{name}": True for name in sla.DIMENSIONS} | {
        **{"since": SPAN.since, "until": SPAN.until, "phases": list(sla.PHASES), "tiers": [], "targets_ms": []},
    }
    plan = "\n".join(tx.execute(text(f"EXPLAIN {sla.REPORT}"), asked).scalars())
    assert "generator_job_transition_sla" in plan
    assert "Seq Scan" not in plan, plan


def test_a_span_is_the_last_week_unless_it_is_said_otherwise_and_never_endless() -> None:
    assert Span.of(None, None, now=BEGAN) == Span(since=BEGAN - timedelta(days=7), until=BEGAN)
    assert Span.of(after(-5), None, now=BEGAN) == Span(since=after(-5), until=BEGAN)
    for since, until, code in (
        (after(5), after(5), "range_invalid"),
        (BEGAN - timedelta(days=93), BEGAN, "range_too_long"),
    ):
        with pytest.raises(Rejected) as no:
            Span.of(since, until, now=BEGAN)
        assert no.value.code == code


def test_a_dimension_that_there_is_not_is_refused_by_name(tx: Connection) -> None:
    with pytest.raises(Rejected, match="'phase' is none of tier, pool, tag, day"):
        read(tx, "phase")


def test_the_command_line_tells_it_as_text_as_json_and_as_csv(stack: Stack, user: str) -> None:
    job_id = stack.speaking_for(user).ask(stack.request())
    stack.wait(job_id, State.AWAITING_REVIEW)

    def vsgen(*arguments: str) -> str:
        said = CliRunner().invoke(app, ["sla", *arguments])
        assert said.exit_code == 0, said.output
        return said.stdout

    told = json.loads(vsgen("--by", "tier,pool,day", "--json"))
    line = next(one for one in told["lines"] if one["phase"] == "total" and one["tier"] == "CURATOR")
    assert (line["pool"], line["target_s"], line["ok"]) == ("default", 300, True)
    assert line["p50_ms"] <= line["p99_ms"]
    rows = list(csv.DictReader(io.StringIO(vsgen("--csv"))))
    assert {row["phase"] for row in rows} == set(sla.PHASES)
    assert "kept to it" in vsgen()
    assert "no job" in vsgen("--from", "2020-01-01", "--to", "2020-01-02")
