"""What Prometheus reads is what Postgres and Redis say, whoever sleeps, dies or dawdles."""

import json
import re
import socket
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import yaml
from live import Stack, eventually
from making import a_job
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, create_engine, text

from functions import metrics
from functions.adapters import jobs, measures, postgres, queue
from functions.config import config
from functions.domain.job import State
from functions.sweep import sweep

ROOT = Path(__file__).parents[1]
FILES = ROOT / "charts" / "visionsuit-generator" / "files"
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def read() -> Samples:
    """Everything, read anew: sample name -> labels -> value."""
    registry = CollectorRegistry()
    registry.register(metrics.Everything())
    found: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"generator_{name}"].get(tuple(sorted(labels.items())), 0)


def up(found: Samples) -> dict[str, float]:
    return {labels[0][1]: one for labels, one in found["generator_up"].items()}


@pytest.fixture
def pool() -> str:
    """A pool of this test's own, which no runner serves."""
    return f"pool-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def tx(stack: Stack) -> Iterator[Connection]:
    """A transaction of the schema's owner that leaves nothing behind."""
    owner = create_engine(stack.house.env["MIGRATIONS_DATABASE_URL"])
    with owner.connect() as tx:
        yield tx
    owner.dispose()


def test_a_job_leaves_its_trace_in_every_metric_it_touches(stack: Stack, user: str) -> None:
    before = read()
    job_id = stack.speaking_for(user).ask(stack.request())
    job = stack.wait(job_id, State.AWAITING_REVIEW)
    after = read()

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("job_moves_total", pool="default", **{"from": "queued", "to": "dispatching"}) >= 1
    assert more("jobs", pool="default", state="awaiting_review") >= 1
    assert more("credits_total", reason="debit") >= job.credits
    for phase in metrics.PHASES:
        assert more("job_phase_seconds_count", pool="default", phase=phase) >= 1
        assert more("job_phase_seconds_sum", pool="default", phase=phase) > 0
        everyone = value(after, "job_phase_seconds_count", pool="default", phase=phase)
        assert value(after, "job_phase_seconds_bucket", pool="default", phase=phase, le="+Inf") == everyone
    assert more("model_cache_total", result="hit") + more("model_cache_total", result="miss") >= 1
    memory = {kind: value(after, "gpu_memory_bytes", pool="default", kind=kind) for kind in metrics.KINDS}
    assert 0 < memory["free"] < memory["total"]
    assert value(after, "ledger_imbalance") == 0
    assert up(after) == {"postgres": 1, "redis": 1, "ledger": 1}


def test_a_gpu_that_tells_of_itself_is_told_of_with_the_node_it_is_in(stack: Stack, user: str) -> None:
    name = f"GPU-{uuid.uuid4()}"
    here = {"pool": "default", "node": "", "gpu": name}
    before = read()["generator_gpu_errors"]
    sick = {"utilisation_percent": 83, "temperature_c": 93, "ecc_errors": 2, "xid_errors": [79]}
    stack.behave(gpu={"uuid": name, **sick})
    stack.wait(stack.speaking_for(user).ask(stack.request()), State.AWAITING_REVIEW)
    found = read()
    assert value(found, "gpu_utilisation_ratio", **here) == 0.83
    assert value(found, "gpu_temperature_celsius", **here) == 93
    assert value(found, "gpu_errors", **here) == 3
    stack.behave(gpu={"uuid": name, "utilisation_percent": None, "ecc_errors": None, "xid_errors": None})
    stack.wait(stack.speaking_for(user).ask(stack.request()), State.AWAITING_REVIEW)
    found = read()
    assert value(found, "gpu_temperature_celsius", **here) == 71
    assert found["generator_gpu_errors"] == before  # what its last render did not tell is not made up


def test_a_retry_a_failure_and_a_refund_are_counted_with_their_reason(stack: Stack, user: str) -> None:
    before = read()
    with postgres.transaction() as tx:
        job = a_job()
        jobs.add(tx, job)
        for state, changes in (
            (State.DEBITED, {}),
            (State.QUEUED, {}),
            (State.DISPATCHING, {"worker": "w"}),
            (State.QUEUED, {"worker": None, "cause": "given_back"}),
            (State.DISPATCHING, {"worker": "w"}),
            (State.QUEUED, {"worker": None, "attempt": 2, "cause": "comfyui_gone"}),
            (State.DISPATCHING, {"worker": "w"}),
            (State.FAILED, {"cause": "model_not_listed"}),
        ):
            job = job.to(state, **changes)
            jobs.save(tx, job)
    after = read()
    assert value(after, "retries_total", pool=job.pool, code="comfyui_gone") == 1 + value(
        before, "retries_total", pool=job.pool, code="comfyui_gone"
    )
    assert value(after, "given_back_total", pool=job.pool) == 1 + value(before, "given_back_total", pool=job.pool)
    assert value(after, "jobs_failed_total", pool=job.pool, code="model_not_listed") == 1 + value(
        before, "jobs_failed_total", pool=job.pool, code="model_not_listed"
    )
    assert value(after, "retries_total", pool=job.pool, code="given_back") == 0


# --- counters come from the truth ---

COUNTED = text("""
SELECT job.pool, coalesce(from_state, '') AS was, to_state, count(*) FROM generator_job_transition
JOIN generator_job AS job ON job.id = job_id GROUP BY 1, 2, 3
""")


def test_the_totals_are_what_counting_every_row_gives_folded_or_not(stack: Stack, user: str) -> None:
    stack.wait(stack.speaking_for(user).ask(stack.request()), State.AWAITING_REVIEW)
    for _ in range(3):
        with postgres.transaction() as tx:
            measures.glimpse(tx)
            assert measures.totals(tx)["moves"] == {tuple(row[:3]): row[3] for row in tx.execute(COUNTED)}
            credits = text("SELECT reason, sum(amount)::bigint FROM generator_credit_transaction GROUP BY 1")
            assert measures.totals(tx)["credits"] == {(reason,): amount for reason, amount in tx.execute(credits)}
            fetched = text("SELECT sum(fetched_bytes)::bigint FROM metric_render")
            assert measures.totals(tx)["model_fetched_bytes"] == {(): tx.execute(fetched).scalar_one()}
        sweep()


def folded() -> int:
    """Up to which move the totals have it all."""
    with postgres.transaction() as tx:
        return int(tx.execute(text("SELECT folded FROM metric_bookmark WHERE origin = 'move'")).scalar_one())


def test_a_row_that_is_committed_late_below_the_bookmark_is_not_missed(stack: Stack, pool: str) -> None:
    def counted() -> int:
        with postgres.transaction() as tx:
            measures.glimpse(tx)
            return measures.totals(tx)["moves"].get((pool, "", "submitted"), 0)

    def fold() -> None:
        for _ in range(4):
            with postgres.transaction() as tx:
                measures.fold(tx)

    with postgres.engine().connect() as slow:
        jobs.add(slow, a_job(pool=pool))  # has drawn its number, and takes its time
        with postgres.transaction() as quick:
            jobs.add(quick, a_job(pool=pool))
            mine = quick.execute(text("SELECT max(id) FROM generator_job_transition")).scalar_one()
        fold()
        assert counted() == 1
        assert folded() < mine
        slow.commit()
    assert counted() == 2
    eventually(lambda: folded() >= mine)  # by the clock's sweeps, once nothing older runs
    assert counted() == 2


def test_folding_goes_on_in_a_cluster_that_the_book_was_moved_to(stack: Stack, pool: str) -> None:
    owner = create_engine(stack.house.env["MIGRATIONS_DATABASE_URL"])
    with owner.begin() as tx:  # as a dump brings it: marked by a transaction whose number this cluster will not reach
        tx.execute(text("UPDATE metric_bookmark SET ceiling = folded, ceiling_xid = '99999999999999'"))
    owner.dispose()
    with postgres.transaction() as tx:
        jobs.add(tx, a_job(pool=pool))
        mine = tx.execute(text("SELECT max(id) FROM generator_job_transition")).scalar_one()

    eventually(lambda: folded() >= mine)


def test_folds_at_the_same_time_count_nothing_twice(stack: Stack, pool: str) -> None:
    with postgres.transaction() as tx:
        for _ in range(20):
            jobs.add(tx, a_job(pool=pool))

    def fold() -> None:
        for _ in range(5):
            with postgres.transaction() as tx:
                measures.fold(tx)

    folders = [threading.Thread(target=fold) for _ in range(4)]
    for folder in folders:
        folder.start()
    for folder in folders:
        folder.join()
    with postgres.transaction() as tx:
        measures.glimpse(tx)
        assert measures.totals(tx)["moves"][pool, "", "submitted"] == 20


def test_the_buckets_are_those_the_database_counts_into(tx: Connection) -> None:
    for bound, following in zip(measures.BOUNDS_MS, [*measures.BOUNDS_MS[1:], None], strict=True):
        asked = {"ms": bound}
        assert tx.execute(text("SELECT metric_bucket(:ms)"), asked).scalar_one() == str(bound)
        above = tx.execute(text("SELECT metric_bucket(:ms + 1)"), asked).scalar_one()
        assert above == ("+Inf" if following is None else str(following))


def test_a_book_that_somebody_cooked_is_out_of_balance(tx: Connection, stack: Stack, user: str) -> None:
    assert measures.imbalance(tx) == 0
    account = {"id": f"user:{user}"}
    tx.execute(text("UPDATE generator_credit_account SET balance = balance + 7 WHERE id = :id"), account)
    assert measures.imbalance(tx) == 7


# --- the queue, as the truth knows it ---

REPORT = text("""
INSERT INTO outbox (source, id, type, subject, time, data, retell_at)
VALUES ('/functions/render', :id, 't', :job_id, now(), CAST(:data AS jsonb), now())
""")


def queued(tx: Connection, pool: str, *, since: datetime, **fields: object) -> None:
    """A job that waits in this pool since then."""
    job = a_job(pool=pool, **fields)
    jobs.add(tx, job)
    jobs.save(tx, job.to(State.DEBITED))
    jobs.save(tx, job.to(State.DEBITED).to(State.QUEUED, changed_at=since))


def test_a_queue_has_an_age_and_an_amount_of_work_but_a_retry_to_come_has_no_age(tx: Connection, pool: str) -> None:
    now = datetime.now(UTC)
    megapixel = {"width": 1000, "height": 1000, "steps": 10}
    queued(tx, pool, since=now - timedelta(hours=1), parameters=megapixel, images=2)
    queued(tx, pool, since=now - timedelta(hours=2), parameters=megapixel, images=4)
    [front] = measures.waiting(tx, [pool, "another"])
    assert (front.pool, front.work) == (pool, 30)
    assert front.oldest_at == now - timedelta(hours=2)

    tx.execute(
        text("UPDATE generator_job SET run_at = :later WHERE pool = :pool AND images = 4"),
        {"later": now + timedelta(minutes=5), "pool": pool},
    )
    [front] = measures.waiting(tx, [pool])
    assert front.oldest_at == now - timedelta(hours=1)


def rendered(tx: Connection, pool: str, *, told: dict[str, object] | None = None, **fields: object) -> None:
    """A job that this pool has rendered, and what its runner told."""
    job = a_job(pool=pool, **fields)
    jobs.add(tx, job)
    for state in (State.DEBITED, State.QUEUED, State.DISPATCHING, State.IN_PROGRESS, State.AWAITING_REVIEW):
        job = job.to(state, worker="w" if state is State.DISPATCHING else job.worker)
        jobs.save(tx, job)
    data = json.dumps({"prepare_ms": 1, "render_ms": 5000, "upload_ms": 1} | (told or {}))
    tx.execute(REPORT, {"id": f"{job.id}:render.succeeded:1", "job_id": job.id, "data": data})


def test_the_pace_is_learned_from_the_latest_renders(tx: Connection, pool: str) -> None:
    assert pool not in measures.pace(tx)
    rendered(tx, pool, parameters={"width": 1000, "height": 500, "steps": 20})
    assert measures.pace(tx)[pool] == pytest.approx(0.5)


# --- what only runners know ---


def test_cold_starts_and_the_model_cache_are_counted_from_the_runners_reports(tx: Connection, pool: str) -> None:
    def counted() -> list[int]:
        totals = measures.totals(tx)
        cache = totals.get("model_cache", {})
        bytes_ = totals.get("model_fetched_bytes", {}).get((), 0)
        return [totals.get("cold_starts", {}).get((pool,), 0), cache.get(("hit",), 0), cache.get(("miss",), 0), bytes_]

    tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))  # whatever else is rendered meanwhile
    before = counted()
    cold = {"cold_start": True, "cache_hits": 0, "cache_misses": 2, "fetched_bytes": 7_000_000_000}
    rendered(tx, pool, told=cold)
    rendered(tx, pool, told={"cold_start": False, "cache_hits": 2, "cache_misses": 0, "fetched_bytes": 0})
    rendered(tx, pool)  # by a runner that told less
    more = [now - then for now, then in zip(counted(), before, strict=True)]
    assert more == [1, 2, 2, 7_000_000_000]


def test_gpu_memory_is_what_the_pools_last_render_left(tx: Connection, pool: str) -> None:
    for free in (20, 5):
        rendered(tx, pool, told={"vram_total_bytes": 24, "vram_free_bytes": free})
    rendered(tx, pool, told={"vram_total_bytes": 0, "vram_free_bytes": 0})  # ComfyUI did not say
    rendered(tx, pool)
    assert measures.memory(tx)[pool] == (24, 5)
    silent = f"{pool}-silent"
    rendered(tx, silent)
    assert silent not in measures.memory(tx)


# --- when a source is not there ---


@pytest.fixture
def with_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Give this process another address for one of its servers, for the length of the test."""

    def forget() -> None:
        for cached in (config, postgres.engine, queue.client, queue.script):
            cached.cache_clear()

    def change(name: str, url: str) -> None:
        monkeypatch.setenv(name, url)
        forget()

    yield change
    monkeypatch.undo()
    forget()


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def test_without_redis_all_but_the_depths_are_told(
    stack: Stack, with_url: Callable[[str, str], None], nobody: str
) -> None:
    with_url("REDIS_URL", f"redis://{nobody}/0")
    found = read()
    assert up(found) == {"postgres": 1, "redis": 0, "ledger": 1}
    assert not found["generator_queue_depth"]
    assert found["generator_jobs"]


def test_without_postgres_the_depths_are_told(stack: Stack, with_url: Callable[[str, str], None], nobody: str) -> None:
    with_url("DATABASE_URL", f"postgresql+pg8000://generator:x@{nobody}/generator")
    found = read()
    assert up(found) == {"postgres": 0, "redis": 1, "ledger": 0}
    assert found["generator_queue_depth"]
    assert not found["generator_jobs"]


def test_a_source_that_never_answers_keeps_nobody_waiting(
    stack: Stack, with_url: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with_url("REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        monkeypatch.setattr(metrics, "PATIENCE_S", 2)
        assert up(read()) == {"postgres": 1, "redis": 0, "ledger": 1}


def test_what_was_read_is_kept_while_it_is_fresh() -> None:
    asked = []
    source = metrics.Source("a", lambda: asked.append(1) or [], fresh_s=3600)
    assert source.ask().result() == source.ask().result() == []
    stale = metrics.Source("b", lambda: asked.append(1) or [], fresh_s=0)
    stale.ask().result()
    stale.ask().result()
    assert len(asked) == 3


# --- the door ---


def test_prometheus_reads_it_over_http_in_the_format_it_asks_for(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.house.state.port('metrics')}"
    plain = requests.get(f"{url}/metrics", timeout=10)
    assert plain.status_code == 200
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'generator_up{source="postgres"} 1.0' in plain.text
    offered = {"accept": "application/openmetrics-text; version=1.0.0"}
    modern = requests.get(f"{url}/metrics", headers=offered, timeout=10)
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")
    assert requests.get(f"{url}/healthz", timeout=10).status_code == 200
    assert requests.get(f"{url}/", timeout=10).status_code == 404
    assert requests.post(f"{url}/metrics", timeout=10).status_code == 405


# --- who reads it ---


def test_every_metric_that_a_rule_or_the_dashboard_names_is_told(stack: Stack, user: str) -> None:
    stack.wait(stack.speaking_for(user).ask(stack.request()), State.AWAITING_REVIEW)
    registry = CollectorRegistry()
    registry.register(metrics.Everything())
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    told = {family.name + suffix for family in families for suffix in suffixes.get(family.type, [""])}
    for name in ("rules.yaml", "rules_test.yaml", "dashboard.json"):
        named = set(re.findall(r"\bgenerator_[a-z_]+", (FILES / name).read_text()))
        assert named - told == set(), name


def test_every_panel_of_the_dashboard_says_what_it_shows() -> None:
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if panel["type"] != "row" and not panel["description"]] == []


def test_every_alert_has_a_severity_a_summary_and_a_remedy() -> None:
    [group] = yaml.safe_load((FILES / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert {"summary", "description"} == set(rule["annotations"]), rule["alert"]
