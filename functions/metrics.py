"""metrics: what Prometheus reads, computed from Postgres and Redis when it asks.

The functions sleep and are many, so none of them counts anything: a counter here is a running total of rows that are
there for other reasons (`migrations/0006_totals.sql`), gauges are looked up. Starting this process anew, or running
two, changes no value. Everything is read by bounded, indexed queries, and kept for METRICS_FRESH_S, so that eager
scrapers cost nothing; the book's sum reads one row a user and is kept for a minute.

Three sources are read side by side. One that fails or dawdles leaves its metrics out and says so in
`generator_up{source}`; the others are told as ever.

Cold starts, hits of the model cache and GPU memory are what runners report of their renders: a try that ended without
pictures adds nothing. Memory is what ComfyUI said after a pool's last render; what a GPU did and how it is, what the
package in our ComfyUI image said during the GPU's own last one, for an hour.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from datetime import UTC, datetime
from functools import cache

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from functions.adapters import estimates, measures, postgres, queue
from functions.adapters.reconciliation import MEANING
from functions.config import config
from functions.domain.errors import Unavailable
from functions.domain.job import State

log = logging.getLogger(__name__)
PATIENCE_S = 5  # a scrape has ten seconds; a source that needs more than half of them is left out
BOOK_FRESH_S = 60
KINDS = ("total", "free")
PHASES = ("wait", "prepare", "render", "upload")


def metrics(accept: str) -> tuple[bytes, str]:
    """Everything, in the text format that suits the `Accept` header; gives the body and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(_registry()), content_type


@cache
def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Everything())
    return registry


class Source:
    """One place to read from, in a thread of its own; what it gave is kept while it is fresh."""

    def __init__(self, name: str, read: Callable[[], list[Metric]], *, fresh_s: float) -> None:
        self.name = name
        self._read, self._fresh_s = read, fresh_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"metrics-{name}")
        self._asked: Future[list[Metric]] | None = None
        self._asked_at = 0.0
        self._lock = threading.Lock()

    def ask(self) -> Future[list[Metric]]:
        """What it gives or gave: asked anew when that is stale, but never while an answer is still on its way."""
        with self._lock:
            stale = time.monotonic() - self._asked_at >= self._fresh_s
            if self._asked is None or (self._asked.done() and stale):
                self._asked = self._thread.submit(self._read)
                self._asked_at = time.monotonic()
            return self._asked


class Everything(Collector):
    """All sources, asked at once and waited for together."""

    def __init__(self) -> None:
        fresh_s = config().metrics_fresh_s
        self._sources = (
            Source("postgres", _of_postgres, fresh_s=fresh_s),
            Source("redis", _of_redis, fresh_s=fresh_s),
            Source("ledger", _of_ledger, fresh_s=max(BOOK_FRESH_S, fresh_s)),
        )

    def describe(self) -> list[Metric]:
        """Nothing: a registry that is told nothing does not read every source when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("generator_up", "whether this source could be read", labels=["source"])
        until = time.monotonic() + PATIENCE_S
        for source, asked in [(source, source.ask()) for source in self._sources]:
            try:
                found = asked.result(timeout=max(0, until - time.monotonic()))
            except TooSlow:
                log.warning("metrics: %s does not answer within %d s", source.name, PATIENCE_S)
                found = None
            except Unavailable as error:
                log.warning("metrics: %s", error)
                found = None
            except Exception:  # whatever is wrong with one source, the others are told
                log.exception("metrics: %s", source.name)
                found = None
            up.add_metric([source.name], 0 if found is None else 1)
            yield from found or ()
        yield up


def _of_redis() -> list[Metric]:
    depth = GaugeMetricFamily(
        "generator_queue_depth",
        "jobs in the pool's sets: waiting for a GPU, leased to a runner, delayed until their next try",
        labels=["pool", "set"],
    )
    for pool in config().pool_names:
        for name, count in queue.depth(pool).items():
            depth.add_metric([pool, name], count)
    return [depth]


def _of_ledger() -> list[Metric]:
    with postgres.transaction() as tx:
        measures.glimpse(tx)
        off = measures.imbalance(tx)
        wrong = dict.fromkeys(MEANING, 0) | measures.discrepancies(tx)
        granted = measures.most_granted(tx)
    return [
        GaugeMetricFamily("generator_ledger_imbalance", "what all accounts hold together: zero", value=off),
        _gauge(
            "ledger_discrepancies",
            "jobs and transfers, among the latest five thousand moves of each, that do not agree, by what is wrong",
            ["kind"],
            {(kind,): count for kind, count in wrong.items()},
        ),
        GaugeMetricFamily(
            "generator_granted_credits_most",
            "the most credits that admins gave one account within 24 hours",
            value=granted,
        ),
    ]


def _of_postgres() -> list[Metric]:
    pools = config().pool_names
    with postgres.transaction() as tx:
        measures.glimpse(tx)
        totals = measures.totals(tx)
        waiting = measures.waiting(tx, pools)
        pace = measures.pace(tx)
        memory = measures.memory(tx)
        gpus = measures.gpus(tx)
        untold, oldest_untold_at = measures.untold(tx)
        dead = measures.open_dead_letters(tx)
        covered, error_s = estimates.accuracy(tx, pools)
    states = _states(totals, pools)
    return [
        *_counters(totals),
        _gauge("jobs", "jobs that stand in this state", ["pool", "state"], states),
        _phases(totals),
        *_queue(waiting, pace, states, pools),
        *_estimates(totals, covered, error_s),
        _gauge(
            "gpu_memory_bytes",
            "GPU memory as ComfyUI told it after the pool's last render",
            ["pool", "kind"],
            {(pool, kind): size for pool, sizes in memory.items() for kind, size in zip(KINDS, sizes, strict=True)},
        ),
        *_gpus(gpus),
        _gauge(
            "dead_letters",
            "events waiting for an operator, by who could not take them; counted to ten thousand",
            ["destination"],
            {(destination,): count for destination, count in dead.items()},
        ),
        _gauge("outbox_untold", "events that nobody has heard yet; counted to ten thousand", [], {(): untold}),
        _gauge("outbox_oldest_seconds", "age of the oldest such event", [], {(): _age_s(oldest_untold_at)}),
    ]


def _counters(totals: measures.Totals) -> list[Metric]:
    return [
        _counter("job_moves", "moves of jobs from state to state", ["pool", "from", "to"], totals.get("moves")),
        _counter("retries", "tries that failed and were followed by another", ["pool", "code"], totals.get("retries")),
        _counter("given_back", "jobs a runner gave back when told to stop", ["pool"], _by_pool(totals, "given_back")),
        _counter("jobs_failed", "jobs that failed for good", ["pool", "code"], totals.get("failed")),
        _counter(
            "cold_starts",
            "renders that were the first of their ComfyUI since it started",
            ["pool"],
            totals.get("cold_starts"),
        ),
        _counter(
            "model_cache",
            "model files that renders needed: hit, it lay where ComfyUI reads; miss, it was fetched",
            ["result"],
            totals.get("model_cache"),
        ),
        _counter(
            "model_fetched_bytes", "bytes of model files fetched for renders", [], totals.get("model_fetched_bytes")
        ),
        _counter("credits", "credits that moved", ["reason"], totals.get("credits")),
    ]


def _by_pool(totals: measures.Totals, name: str) -> dict[tuple[str, ...], int]:
    return {(pool,): value for (pool, _), value in totals.get(name, {}).items()}


def _states(totals: measures.Totals, pools: tuple[str, ...]) -> dict[tuple[str, ...], float]:
    """Jobs in each state: who came less who left, so that not one job has to be looked at."""
    standing: dict[tuple[str, ...], float] = {(pool, state): 0 for pool in pools for state in State}
    for (pool, was, becomes), count in totals.get("moves", {}).items():
        standing[pool, becomes] = standing.get((pool, becomes), 0) + count
        if was:
            standing[pool, was] = standing.get((pool, was), 0) - count
    return standing


def _phases(totals: measures.Totals) -> Metric:
    found = HistogramMetricFamily(
        "generator_job_phase_seconds",
        "how long jobs wait for a GPU, and their runners prepare, render and upload",
        labels=["pool", "phase"],
    )
    counts, bounds = totals.get("phase_bucket", {}), [*map(str, measures.BOUNDS_MS), "+Inf"]
    for (pool, phase), total_ms in sorted(totals.get("phase_ms", {}).items()):
        buckets, below = [], 0
        for bound in bounds:
            below += counts.get((pool, phase, bound), 0)
            buckets.append((bound if bound == "+Inf" else str(int(bound) / 1000), below))
        found.add_metric([pool, phase], buckets, sum_value=total_ms / 1000)
    return found


def _queue(
    waiting: list[measures.Waiting],
    pace: dict[str, float],
    states: dict[tuple[str, ...], float],
    pools: tuple[str, ...],
) -> list[Metric]:
    """Age and size of the queues. The work is an estimate: jobs, by what one needs on average, by what that has lately
    taken; a pool that has never rendered has none to tell."""
    found = {one.pool: one for one in waiting}
    oldest: dict[tuple[str, ...], float] = {
        (pool,): _age_s(found[pool].oldest_at) if pool in found else 0 for pool in pools
    }
    work: dict[tuple[str, ...], float] = {
        (pool,): states[pool, State.QUEUED] * found[pool].work * pace[pool] if pool in found else 0
        for pool in pools
        if pool in pace
    }
    return [
        _gauge("queue_oldest_seconds", "how long the first of the claimable jobs has waited", ["pool"], oldest),
        _gauge("queue_work_seconds", "estimate of the GPU time that all waiting jobs need", ["pool"], work),
    ]


def _gpus(gpus: list[measures.Gpu]) -> list[Metric]:
    labels = ["pool", "node", "gpu"]
    ratio = {one: share / 100 for one in gpus if (share := one.gpu_utilisation_percent) is not None}
    degrees = {one: degrees for one in gpus if (degrees := one.gpu_temperature_c) is not None}
    errors = {one: count for one in gpus if (count := one.gpu_errors) is not None}

    def gauge(name: str, about: str, found: Mapping[measures.Gpu, float]) -> Metric:
        return _gauge(name, about, labels, {(one.pool, one.node, one.gpu): value for one, value in found.items()})

    return [
        gauge("gpu_utilisation_ratio", "how busy the GPU was during its last render, on average", ratio),
        gauge("gpu_temperature_celsius", "the GPU's highest temperature during its last render", degrees),
        gauge("gpu_errors", "critical events and uncorrectable memory errors that the GPU's driver knows of", errors),
    ]


def _estimates(totals: measures.Totals, covered: dict[str, float], error_s: dict[str, float]) -> list[Metric]:
    """The waits that were told at submission, against those that came."""
    return [
        _counter(
            "wait_estimates",
            "estimates given at submission, by the wait that came: sooner than the middle, within the range, or later",
            ["pool", "outcome"],
            totals.get("wait_estimates"),
        ),
        _gauge(
            "wait_estimate_coverage",
            "share of the latest waits that ended within their estimate; nine in ten were promised",
            ["pool"],
            {(pool,): share for pool, share in covered.items()},
        ),
        _gauge(
            "wait_estimate_error_seconds",
            "median of how far the latest waits were from the middle of their estimate",
            ["pool"],
            {(pool,): seconds for pool, seconds in error_s.items()},
        ),
    ]


def _age_s(since: datetime | None) -> float:
    return 0 if since is None else max(0.0, (datetime.now(UTC) - since).total_seconds())


def _gauge(name: str, about: str, labels: list[str], values: dict[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(f"generator_{name}", about, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _counter(name: str, about: str, labels: list[str], values: dict[tuple[str, ...], int] | None) -> Metric:
    family = CounterMetricFamily(f"generator_{name}", about, labels=labels)
    for key, value in sorted((values or {}).items()):
        family.add_metric(key, value)
    return family
