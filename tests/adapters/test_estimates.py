"""What is learned from renders and waits, on a real Postgres: once from each move, narrow where enough is known."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from live import Stack
from making import NOW, a_job
from sqlalchemy import Connection, create_engine, text

from functions.adapters import estimates, jobs, measures
from functions.config import config
from functions.domain.estimate import WINDOW, Learned
from functions.domain.job import Job, State

REPORT = text("""
INSERT INTO outbox (source, id, type, subject, time, data, retell_at)
VALUES ('/functions/render', :id, 't', :job_id, now(), CAST(:data AS jsonb), now())
""")
LAST = text("SELECT coalesce(max(id), 0) FROM generator_job_transition")
WORK = 64 * 64 * 4 / 1e6  # of `a_job`, in megapixel-steps


@pytest.fixture
def pool() -> str:
    return f"pool-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def tx(stack: Stack) -> Iterator[Connection]:
    """A transaction of the schema's owner that leaves nothing behind."""
    owner = create_engine(stack.house.env["MIGRATIONS_DATABASE_URL"])
    with owner.connect() as tx:
        yield tx
    owner.dispose()


def last(tx: Connection) -> int:
    return int(tx.execute(LAST).scalar_one())


def claimed(tx: Connection, pool: str, *, waited_s: float, **fields: Any) -> Job:
    """A job that a GPU has taken after this long."""
    job = a_job(pool=pool, **fields)
    jobs.add(tx, job)
    for state in (State.DEBITED, State.QUEUED):
        job = job.to(state)
        jobs.save(tx, job)
    job = job.to(State.DISPATCHING, worker="w", changed_at=job.submitted_at + timedelta(seconds=waited_s))
    jobs.save(tx, job)
    return job


def rendered(tx: Connection, pool: str, *, render_ms: int, **fields: Any) -> None:
    """A job that the pool has rendered in this time, with 300 ms around it."""
    job = claimed(tx, pool, waited_s=1, **fields)
    for state in (State.IN_PROGRESS, State.AWAITING_REVIEW):
        job = job.to(state)
        jobs.save(tx, job)
    data = json.dumps({"prepare_ms": 200, "render_ms": render_ms, "upload_ms": 100})
    tx.execute(REPORT, {"id": f"{job.id}:render.succeeded:1", "job_id": job.id, "data": data})


def test_until_a_pool_has_shown_its_pace_the_setting_says(tx: Connection, pool: str) -> None:
    assumed = config().assumed_ms_per_megapixel_step
    assert estimates.cost_ms(tx, pool=pool, workflow_id="txt2img", model="m", work=30) == round(30 * assumed)
    assert estimates.cost_ms(tx, pool=pool, workflow_id="txt2img", model="m", work=0) == 1
    known = estimates.known(tx, [pool], role="USER")[pool]
    assert (known.pace.p50, known.start.p50) == (assumed, config().assumed_start_s * 1000)


def test_a_class_is_believed_once_it_has_been_seen_enough_and_the_wider_one_till_then(
    tx: Connection, pool: str
) -> None:
    before = last(tx)
    for _ in range(9):
        rendered(tx, pool, render_ms=round(100 * WORK * 1000), model="quick.safetensors")
    for _ in range(4):
        rendered(tx, pool, render_ms=round(900 * WORK * 1000), model="slow.safetensors")
    estimates.learn(tx, after=before, upto=last(tx))

    def cost_ms(model: str, workflow_id: str = "txt2img") -> int:
        return estimates.cost_ms(tx, pool=pool, workflow_id=workflow_id, model=model, work=1)

    assert cost_ms("quick.safetensors") == pytest.approx(100_000, rel=0.1)
    assert cost_ms("slow.safetensors") == cost_ms("never-seen") == cost_ms("any", "another-workflow")
    before = last(tx)
    rendered(tx, pool, render_ms=round(900 * WORK * 1000), model="slow.safetensors")
    estimates.learn(tx, after=before, upto=last(tx))
    assert cost_ms("slow.safetensors") == pytest.approx(900_000, rel=0.1)
    known = estimates.known(tx, [pool], role="USER", workflow_id="txt2img", model="slow.safetensors")[pool]
    assert known.overhead.p50 == 300
    assert known.render(1).p50_ms == pytest.approx(900_300, rel=0.1)


def test_the_workflow_s_complexity_is_part_of_the_work(tx: Connection, pool: str) -> None:
    tx.execute(text("""UPDATE generator_workflow SET document = jsonb_set(document, '{complexity}', '2')"""))
    before = last(tx)
    rendered(tx, pool, render_ms=round(100 * WORK * 1000))
    estimates.learn(tx, after=before, upto=last(tx))
    assert estimates.cost_ms(tx, pool=pool, workflow_id="txt2img", model="m", work=1) == pytest.approx(50_000, rel=0.1)


def test_waits_teach_the_start_of_a_gpu_the_slack_of_a_line_and_how_good_estimates_were(
    tx: Connection, pool: str
) -> None:
    before = last(tx)
    for _ in range(8):
        claimed(tx, pool, waited_s=40, wait_p50_ms=60_000, wait_p90_ms=120_000, wait_raw_ms=0)
    for _ in range(8):
        claimed(tx, pool, waited_s=30, wait_p50_ms=10_000, wait_p90_ms=20_000, wait_raw_ms=10_000, role="USER")
    claimed(tx, pool, waited_s=77)  # nobody could say, so there is nothing to compare
    assert estimates.learn(tx, after=before, upto=last(tx)) == 16
    known = estimates.known(tx, [pool], role="user")[pool]
    assert (known.start.p50, known.slack.p50) == (40_000, 3)
    covered, error_s = estimates.accuracy(tx, [pool, "another"])
    assert covered == {pool: pytest.approx(0.5, abs=0.1)}
    assert error_s == {pool: 20.0}
    totals = measures.totals(tx)["wait_estimates"]
    assert {outcome: count for (name, outcome), count in totals.items() if name == pool} == {"sooner": 8, "later": 8}


def test_the_gaps_between_claims_teach_how_fast_a_line_is_served(tx: Connection, pool: str) -> None:
    queued = []
    for _ in range(8):
        job = a_job(pool=pool)
        jobs.add(tx, job)
        jobs.save(tx, job.to(State.DEBITED))
        queued.append(job.to(State.DEBITED).to(State.QUEUED))
        jobs.save(tx, queued[-1])
    before = last(tx)
    for number, job in enumerate(queued):
        jobs.save(tx, job.to(State.DISPATCHING, worker="w", changed_at=job.changed_at + timedelta(seconds=4 * number)))
        estimates.learn(tx, after=before, upto=last(tx))  # a sweep after each
        before = last(tx)
    later = NOW + timedelta(hours=1)
    claimed(tx, pool, waited_s=1, submitted_at=later, changed_at=later)  # it came when nothing waited
    estimates.learn(tx, after=before, upto=last(tx))
    turn = estimates.known(tx, [pool], role="USER")[pool].turn
    assert (turn.seen, turn.p50) == (7, 4000 * max(1, config().workers(pool)))


def test_only_the_first_claim_ends_a_wait(tx: Connection, pool: str) -> None:
    job = claimed(tx, pool, waited_s=5, wait_p50_ms=1, wait_p90_ms=2, wait_raw_ms=0)
    before = last(tx)
    again = job.to(State.QUEUED, worker=None, cause="given_back")
    jobs.save(tx, again)
    jobs.save(tx, again.to(State.DISPATCHING, worker="w2", changed_at=job.changed_at + timedelta(hours=1)))
    assert estimates.learn(tx, after=before, upto=last(tx)) == 0


def test_a_window_keeps_the_latest_and_counts_all(tx: Connection, pool: str) -> None:
    for value in (1.0, 2.0):
        estimates._keep(tx, {(pool, "", "hold"): [value] * WINDOW})
    row = tx.execute(text("SELECT latest, p50, seen FROM generator_estimate WHERE pool = :pool"), {"pool": pool}).one()
    assert (set(row.latest), len(row.latest), row.p50, row.seen) == ({2.0}, WINDOW, 2.0, 2 * WINDOW)
    assert estimates.known(tx, [pool], role="USER")[pool].hold == Learned(p50=2, p90=2, mean=2, seen=2 * WINDOW)


def test_the_oldest_wait_is_that_of_a_job_that_could_be_claimed(tx: Connection, pool: str) -> None:
    now = datetime.now(UTC)
    for hours, later in ((3, True), (2, False), (1, False)):
        job = a_job(pool=pool)
        jobs.add(tx, job)
        waiting = job.to(State.DEBITED).to(State.QUEUED, changed_at=now - timedelta(hours=hours))
        jobs.save(tx, job.to(State.DEBITED))
        jobs.save(tx, waiting)
        if later:
            tx.execute(
                text("UPDATE generator_job SET run_at = now() + interval '1 hour' WHERE id = :id"), {"id": job.id}
            )
    assert estimates.oldest_waits(tx, [pool, "another"]) == {pool: now - timedelta(hours=2)}


def test_an_estimate_that_is_no_range_cannot_be_kept(tx: Connection, pool: str) -> None:
    for wrong in ({"wait_p50_ms": 5}, {"wait_p50_ms": 5, "wait_p90_ms": 4, "wait_raw_ms": 0}):
        trial = tx.begin_nested()
        with pytest.raises(Exception, match="generator_job_wait"):
            jobs.add(tx, a_job(pool=pool, **wrong))
        trial.rollback()


def test_an_estimate_reads_few_rows_however_much_was_learned(tx: Connection, pool: str) -> None:
    tx.execute(
        text("""
        INSERT INTO generator_estimate (pool, class, kind, latest, p50, p90, mean, seen)
        SELECT :pool, 'w/' || n, 'pace', ARRAY[1.0], 1, 1, 1, 1 FROM generate_series(1, 5000) AS n
        """),
        {"pool": pool},
    )
    tx.execute(text("ANALYZE generator_estimate"))
    asked = {"pools": [pool], "classes": ["w/7", "w", "USER", ""]}
    plan = tx.execute(text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + str(estimates.KNOWN)), asked).scalar_one()
    top = plan[0]["Plan"]
    assert top["Node Type"] in ("Index Scan", "Bitmap Heap Scan")
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 40
