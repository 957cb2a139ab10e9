"""Every setting there is, read from the environment once; nothing else reads `os.environ`.

An optional setting that is absent has the default given here; a wrong one is named in the error, with what would be
right. The README's configuration table is made from `SETTINGS` (`vsgen settings`).
"""

import math
import os
import pwd
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cache, cached_property
from typing import Any, get_args

from functions.domain import pool, spending
from functions.domain.place import LANE_MS
from functions.domain.pool import PoolSpec
from functions.domain.price import Prices
from functions.domain.refresh import Period, Refresh
from functions.domain.retention import Periods
from functions.domain.retry import Policy
from functions.domain.transfer import MOST_DISCARD_PERCENT, DiscardPolicy


class Misconfigured(Exception):
    """A setting is missing or wrong; the text names it and says what would be right."""


def _setting(about: str, default: Any = None) -> Any:
    return field(default=default, metadata={"about": about})


def _period(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings; each field is the environment variable of its name in capitals."""

    database_url: str | None = _setting(
        "Postgres, as the functions' own role: postgresql+pg8000://user:password@host/db"
    )
    migrations_database_url: str | None = _setting("Postgres, as the schema's owner; default: DATABASE_URL")
    database_pool_size: int = _setting("connections a process may hold; no more threads than this at work", 8)
    redis_url: str | None = _setting("Redis or Valkey: redis://user:password@host:port/0")
    s3_endpoint_url: str | None = _setting("S3 endpoint; absent: AWS itself")
    s3_region: str = _setting("S3 region", "us-east-1")
    s3_access_key_id: str | None = _setting("S3 access key; absent: boto3's own search")
    s3_secret_access_key: str | None = _setting("S3 secret key")
    models_bucket: str = _setting("checkpoints/, loras/ and vae/ are read from here", "models")
    workflows_bucket: str = _setting("workflow documents, <id>/<version>.json", "generator-workflows")
    outputs_bucket: str = _setting("renders, generated/<job>/<attempt>/", "generator-outputs")
    collections_bucket: str = _setting("accepted pictures are copied here", "visionsuit-images")
    collect_by: str = _setting(
        "copy: an accepted picture stays in the outputs bucket as well; move: only its collection's copy stays", "copy"
    )
    collections_claim: str = _setting(
        "whether a token must say, in its claim `collections`, which ones its user may accept into: required, or "
        "optional (where it does, it holds; where not, the platform decides)",
        "optional",
    )
    review: str = _setting(
        "who decides about pictures: always a curator; optional: unless the request says review_required: false; "
        "never: all are handed over as they are",
        "always",
    )
    link_s: float = _setting("how long a presigned link to a picture works; 0: none are given", 0.0)
    s3_links_endpoint_url: str | None = _setting("S3 endpoint in presigned links; absent: S3_ENDPOINT_URL")
    keep_discarded_days: float = _setting("a discarded picture can be restored for so long, then it is purged", 7.0)
    keep_unreviewed_days: float = _setting("pictures that nobody reviews for so long are discarded", 30.0)
    keep_failed_days: float = _setting("what a failed or cancelled job left in the outputs bucket", 7.0)
    keep_stale_days: float = _setting("a job that does not move for so long fails, and is refunded", 30.0)
    keep_curated_days: float | None = _setting("the outputs bucket's copy of an accepted picture; absent: for ever")
    keep_delivered_days: float | None = _setting("pictures handed over without a review; absent: for ever")
    keep_orphans_days: float = _setting("objects that no row knows, and parts of uploads that never ended", 2.0)
    keep_events_days: float = _setting("events heard and told, for redeliveries and replays", 90.0)
    k_sink: str | None = _setting("the Broker's address, where events are posted")
    service_secrets: str | None = _setting(
        "shared secrets (HS256) that sign requests and bearer tokens, "
        "comma-separated; all are valid, so that one can be rotated in before the other goes"
    )
    token_issuer: str = _setting("the `iss` that tokens and signed events must carry", "visionsuit")
    submit_roles: str = _setting("roles that may ask for pictures", "CURATOR,ADMIN")
    price_base: float = _setting("credits for one picture of 1024 x 1024 pixels at 28 steps, at complexity 1", 1.0)
    price_lora: float = _setting("credits for each LoRA of a job", 1.0)
    quote_valid_s: float = _setting("how long a quoted price stands, whatever becomes of the prices", 900.0)
    spending_caps: str | None = _setting(
        "the most that each user of a role may spend, comma-separated: CURATOR=200/day,CURATOR=3000/month; "
        "absent: no cap but those set for single users"
    )
    discard_refund_percent: int = _setting("how much of its price a picture gives back when discarded, 0 to 50", 0)
    discard_refund_excluded: str | None = _setting("reasons for a discard, comma-separated, that give nothing back")
    refresh_credits: int = _setting("credits that come back by themselves each period; 0: none do", 0)
    refresh_period: str = _setting("how often they do, in UTC: day, week or month", "day")
    refresh_adds: str = _setting("on: they are added to what is left; off: a balance is lifted to them", "off")
    refresh_cap: int = _setting("no refresh lifts a balance above this", 200)
    achievement_credits: int = _setting("the most that one achievement may pay (`credits.earned`); 0: none pays", 50)
    achievement_day_credits: int = _setting("the most that a user's achievements may pay in one UTC day", 200)
    grant_limit_credits: int = _setting(
        "the most that one admin may grant alone; above it, and for oneself, a second one approves", 500
    )
    grant_approval_h: float = _setting("hours that a grant waits for the second admin before it expires", 24.0)
    team_pools: str = _setting("on: teams may have a pool of credits that their members' jobs are paid from", "off")
    admin_token: str | None = _setting(
        "the platform's token of the admin in whose name `vsgen credits` acts; absent: DEV_IDENTITY"
    )
    dev_identity: str | None = _setting(
        "user:ROLE that a request without a token counts as; for one's own machine only"
    )
    pools: str = _setting(
        "GPU pools, comma-separated: name[:VRAM in GiB][*most workers][=tags], as in v12:12*4,v24:24*8=high-vram+sdxl; "
        "a job goes to the smallest with its tags and the VRAM its workflow needs; no VRAM given: enough for all; "
        "no most: 8",
        "default",
    )
    pool: str | None = _setting("the pool a runner claims from; default: the first of POOLS")
    worker_id: str | None = _setting("a runner's name; default: host name and process id")
    node_name: str | None = _setting("the node a runner is on, told with what its GPU did")
    ready_file: str | None = _setting("a runner touches this file right after its claim (KEDA's readiness)")
    lease_s: float = _setting("how long a claim holds without a sign of life", 30.0)
    heartbeat_s: float = _setting("how often a runner extends its lease", 10.0)
    wait_s: float = _setting(
        "how long a runner waits for its first job; none where one is started for each, as in a cluster", 0.0
    )
    max_jobs: int = _setting("jobs a runner may do, one after the other, while ComfyUI has their models warm", 1)
    idle_s: float = _setting("how long a runner that may do more waits for the next job", 0.0)
    comfyui_url: str | None = _setting("ComfyUI beside the runner", "http://127.0.0.1:8188")
    comfyui_models_dir: str | None = _setting(
        "ComfyUI's models folder, where fetched files go; absent: only models that ComfyUI lists itself"
    )
    models_cache_size: str | None = _setting(
        "the space for fetched models, in bytes or as 60Gi; a twentieth of it stays free, and the models used longest "
        "ago go first; absent: the disk's"
    )
    picture_metadata: str = _setting(
        "what a PNG tells of how it was made: full (prompt, parameters, graph) or none", "full"
    )
    comfyui_start_s: float = _setting("how long a runner waits for a ComfyUI that does not answer yet", 300.0)
    render_deadline_s: float = _setting("seconds for preparing and loading that a render's deadline starts from", 600.0)
    render_s_per_megapixel_step: float = _setting("seconds that one step on one megapixel may take at the most", 10.0)
    retries: int = _setting("tries after the first", 3)
    retry_base_s: float = _setting("the first backoff's bound; it doubles with each try, with full jitter", 10.0)
    retry_cap_s: float = _setting("the longest backoff's bound", 300.0)
    retell_s: float = _setting("sweep tells an event again that its function has not heard for this long", 20.0)
    assumed_ms_per_megapixel_step: float = _setting(
        "what a pool's renders are taken to need until it has shown its own pace", 500.0
    )
    assumed_start_s: float = _setting("how long a GPU is taken to need to start until a pool has shown it", 60.0)
    stalled_s: float = _setting(
        "jobs that wait this long in a pool where nothing runs get no estimate: nobody knows when a GPU will come",
        900.0,
    )
    head_starts: str = _setting(
        "what each role's jobs, and BOOSTed ones, are ahead of their time in the queue, in minutes; `lane`: ahead of "
        "everybody; a role not named: 0",
        "ADMIN=lane,CURATOR=30,USER=0,LOW=-30,BOOST=60",
    )
    max_in_flight_per_user: int = _setting(
        "jobs of one user that a pool runs while others wait; more only on GPUs that would idle; 0: any number", 2
    )
    max_in_flight_per_role: str = _setting(
        "jobs of a role that each pool runs at once: LOW=2,USER=10; a role not named: any number", ""
    )
    max_in_flight_per_pool: str = _setting(
        "jobs that a pool runs at once: v24=4,v80=1; a pool not named: as many as it has workers", ""
    )
    max_in_flight: int = _setting("jobs that all pools together run at once; 0: any number", 0)
    affinity_bound_s: float = _setting(
        "a warm runner may take a job of its model before others, unless one of them has waited this long", 300.0
    )
    spill_after_s: float = _setting(
        "a job that has waited this long goes to a bigger pool that can run it and has idle GPUs; 0: never", 300.0
    )
    saturated_wait_s: float = _setting(
        "a pool with more seconds of work waiting than this is saturated, and refuses SATURATED_ROLES; 0: no such mark",
        3600.0,
    )
    saturated_depth: int = _setting("as SATURATED_WAIT_S, in waiting jobs; 0: no such mark", 0)
    recovered_share: float = _setting("a saturated pool has recovered below this share of its marks", 0.5)
    saturated_roles: str = _setting(
        "roles that a saturated pool refuses; a request that may be degraded gets less for less, up to twice the mark",
        "USER,LOW",
    )
    max_waiting_per_user: int = _setting("jobs of one user that may wait, in all pools; 0: any number", 1000)
    max_waiting_per_role: str = _setting(
        "jobs of a role that may wait, in all pools: USER=500,LOW=100; a role not named: any number", ""
    )
    max_waiting_per_pool: int = _setting("jobs that may wait in one pool; 0: any number", 0)
    max_waiting: int = _setting("jobs that may wait in all pools together; 0: any number", 0)
    metrics_fresh_s: float = _setting("how long the metrics function keeps what it read before it looks again", 5.0)
    kubeconfig: str | None = _setting(
        "cluster that `vsgen gpu` speaks to; absent: ~/.kube/config, or in a pod its own service account"
    )
    operator: str | None = _setting("who `vsgen` writes down as having acted; absent: the login of whoever runs it")
    sla_targets: str = _setting(
        "tier=seconds, comma-separated: within how long 95 of 100 jobs of the tier get from the asking to the pictures",
        "ADMIN=300,CURATOR=300,USER=300,LOW=1800",
    )
    log_level: str = _setting("DEBUG, INFO, WARNING or ERROR", "INFO")

    @cached_property
    def pool_specs(self) -> dict[str, PoolSpec]:
        """Each pool by its name, in the order they are given."""
        return pool.parse(self.pools)

    @property
    def pool_names(self) -> tuple[str, ...]:
        return tuple(self.pool_specs)

    @property
    def pressed_roles(self) -> frozenset[str]:
        """The roles that a saturated pool refuses, in capitals."""
        return frozenset(role.strip() for role in self.saturated_roles.upper().split(",") if role.strip())

    @cached_property
    def head_starts_ms(self) -> dict[str, int]:
        """Head starts by role in capitals, BOOST among them."""
        pairs = (pair.partition("=") for pair in self.head_starts.upper().split(",") if pair.strip())
        return {
            role.strip(): LANE_MS if minutes.strip() == "LANE" else round(float(minutes) * 60_000)
            for role, _, minutes in pairs
        }

    @cached_property
    def in_flight_of_roles(self) -> dict[str, int]:
        """Jobs that each pool may run at once, by role in capitals."""
        pairs = (pair.partition("=") for pair in self.max_in_flight_per_role.split(",") if pair.strip())
        return {role.strip().upper(): int(limit) for role, _, limit in pairs}

    @cached_property
    def in_flight_of_pools(self) -> dict[str, int]:
        """Jobs that a pool may run at once, by its name."""
        pairs = (pair.partition("=") for pair in self.max_in_flight_per_pool.split(",") if pair.strip())
        return {pool.strip(): int(limit) for pool, _, limit in pairs}

    def limits(self, name: str) -> str:
        """What the queue's scripts are told of a pool, one that is in no list too (`adapters/lua/pool.lua`)."""
        if name not in self._limits:
            spec = self.pool_specs.get(name)
            roles = ",".join(f"{role}={most}" for role, most in self.in_flight_of_roles.items())
            terms = (
                self.max_in_flight_per_user or NO_CAP,
                round(self.lease_s * 1000),
                self.in_flight_of_pools.get(name, 0),
                spec.max_workers if spec else pool.MAX_WORKERS,
                round(self.affinity_bound_s * 1000),
                roles,
            )
            self._limits[name] = " ".join(map(str, terms))
        return self._limits[name]

    @cached_property
    def _limits(self) -> dict[str, str]:
        return {}

    @property
    def waiting_limits_of_roles(self) -> dict[str, int]:
        """Jobs that may wait, by role in capitals."""
        pairs = (pair.partition("=") for pair in self.max_waiting_per_role.split(",") if pair.strip())
        return {role.strip().upper(): int(limit) for role, _, limit in pairs}

    @property
    def roles(self) -> frozenset[str]:
        """The roles that may ask for pictures, in capitals."""
        return frozenset(role.strip() for role in self.submit_roles.upper().split(","))

    @property
    def prices(self) -> Prices:
        return Prices(base=self.price_base, lora=self.price_lora)

    def spending_caps_of(self, role: str) -> Mapping[str, int]:
        """What a user of this role may spend, by period; empty: no cap."""
        return spending.parse(self.spending_caps or "").get(role.upper(), {})

    @property
    def discard_policy(self) -> DiscardPolicy:
        excluded = (reason.strip() for reason in (self.discard_refund_excluded or "").split(","))
        return DiscardPolicy(percent=self.discard_refund_percent, excluded=frozenset(filter(None, excluded)))

    @property
    def refresh(self) -> Refresh:
        return Refresh(
            credits=self.refresh_credits,
            period=Period(self.refresh_period),
            adds=self.refresh_adds == "on",
            cap=self.refresh_cap,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(secret.strip() for secret in (self.service_secrets or "").split(",") if secret.strip())

    @property
    def claiming_pool(self) -> str:
        return self.pool or self.pool_names[0]

    @property
    def models_cache_bytes(self) -> int | None:
        """How large the fetched models may grow."""
        return _bytes(self.models_cache_size) * 19 // 20 if self.models_cache_size else None

    @property
    def retry_policy(self) -> Policy:
        return Policy(retries=self.retries, base_s=self.retry_base_s, cap_s=self.retry_cap_s)

    def workers(self, pool: str) -> int:
        """GPUs of the pool that may be at work at once; none of one that is not configured any more."""
        spec = self.pool_specs.get(pool)
        most = spec.max_workers if spec else 0
        return min(most, self.in_flight_of_pools.get(pool) or most)

    @property
    def operator_name(self) -> str:
        return f"vsgen:{self.operator or _login()}"

    @property
    def sla_targets_s(self) -> dict[str, float]:
        """Seconds by tier, in capitals."""
        pairs = (pair.partition("=") for pair in self.sla_targets.split(",") if pair.strip())
        return {tier.strip().upper(): float(seconds) for tier, _, seconds in pairs}

    @property
    def periods(self) -> Periods:
        """How long retention keeps what."""
        return Periods(
            discarded=timedelta(days=self.keep_discarded_days),
            unreviewed=timedelta(days=self.keep_unreviewed_days),
            failed=timedelta(days=self.keep_failed_days),
            stale=timedelta(days=self.keep_stale_days),
            curated=_period(self.keep_curated_days),
            delivered=_period(self.keep_delivered_days),
            orphans=timedelta(days=self.keep_orphans_days),
            events=timedelta(days=self.keep_events_days),
        )

    @property
    def worker(self) -> str:
        return self.worker_id or f"{socket.gethostname()}-{os.getpid()}"

    def need(self, name: str) -> str:
        """A setting that this process cannot do without."""
        value = getattr(self, name)
        if not value:
            raise Misconfigured(f"{name.upper()} is not set: {SETTINGS[name].metadata['about']}")
        return str(value)


def _login() -> str:
    """The name of this process's user; in a pod it may have none but its number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


NO_CAP = 2**31
UNITS: dict[str, int] = {"": 1} | {f"{unit}i": 1024**power for power, unit in enumerate("KMGT", 1)}
UNITS |= {unit: 1000**power for power, unit in enumerate("kMGT", 1)}


def _bytes(quantity: str) -> int:
    """A quantity of Kubernetes' in bytes: 60Gi, 500M, 1000; ValueError when it is none."""
    found = re.fullmatch(r"([0-9]+)([A-Za-z]*)", quantity)
    if not found or found[2] not in UNITS:
        raise ValueError(quantity)
    return int(found[1]) * UNITS[found[2]]


SCHEMES = {
    "database_url": ("postgresql+pg8000://",),
    "migrations_database_url": ("postgresql+pg8000://",),
    "redis_url": ("redis://", "rediss://", "unix://"),
    **{name: ("http://", "https://") for name in ("s3_endpoint_url", "s3_links_endpoint_url", "k_sink", "comfyui_url")},
}
MAY_BE_ZERO = {
    *("retries", "retry_base_s", "retry_cap_s", "wait_s", "idle_s", "link_s"),
    *("refresh_credits", "achievement_credits", "grant_limit_credits", "price_lora", "discard_refund_percent"),
    *("keep_discarded_days", "keep_unreviewed_days", "keep_failed_days", "keep_curated_days", "keep_delivered_days"),
    *("spill_after_s", "saturated_wait_s", "saturated_depth", "affinity_bound_s"),
    *("max_waiting_per_user", "max_waiting_per_pool", "max_waiting", "max_in_flight_per_user", "max_in_flight"),
}
CHOICES = {
    "refresh_period": tuple(Period),
    "refresh_adds": ("on", "off"),
    "team_pools": ("on", "off"),
    "picture_metadata": ("full", "none"),
    "collect_by": ("copy", "move"),
    "collections_claim": ("optional", "required"),
    "review": ("always", "optional", "never"),
}
#: Settings that are lists of a kind of their own, by the property that reads them, and what would be right.
GRAMMARS = {
    "pool_specs": "POOLS must name at least one pool, each once, as name[:VRAM][*most workers][=tag+tag], names in "
    "letters, digits, - _ and .: a name is part of a key",
    "head_starts_ms": "HEAD_STARTS must be ROLE=minutes, or ROLE=lane, comma-separated",
    "in_flight_of_roles": "MAX_IN_FLIGHT_PER_ROLE must be ROLE=number, comma-separated",
    "in_flight_of_pools": "MAX_IN_FLIGHT_PER_POOL must be pool=number, comma-separated",
    "waiting_limits_of_roles": "MAX_WAITING_PER_ROLE must be ROLE=number, comma-separated",
}
#: A period in days is a moment in the past when it is used, and the calendar ends.
MOST_DAYS = 36_500
SETTINGS = {setting.name: setting for setting in fields(Config)}


def read(environ: Mapping[str, str]) -> Config:
    """The settings in this environment; Misconfigured names the first one that is wrong."""
    found = Config(**_typed(environ))
    for check in (_check_words, _check_lists, _check_urls, _check_queue, _check_credits, _check_gallery):
        check(found)
    return found


def _typed(environ: Mapping[str, str]) -> dict[str, Any]:
    """What is set, each as the kind of value it is, numbers within what is finite and makes sense."""
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        text = environ.get(name.upper(), "")
        if text == "":
            continue
        kind = next(k for k in (*get_args(setting.type), setting.type) if k in (int, float, str))
        try:
            values[name] = kind(text)
        except ValueError:
            raise Misconfigured(
                f"{name.upper()}={text!r} is not {kind.__name__}: {setting.metadata['about']}"
            ) from None
        least = 0 if name in MAY_BE_ZERO else math.ulp(0)
        if kind is not str and not least <= values[name] < math.inf:
            raise Misconfigured(f"{name.upper()}={text} is too small or too large: {setting.metadata['about']}")
    return values


def _check_words(found: Config) -> None:
    for name, choices in CHOICES.items():
        if getattr(found, name) not in choices:
            raise Misconfigured(f"{name.upper()} must be {' or '.join(choices)}: {SETTINGS[name].metadata['about']}")
    if found.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise Misconfigured(f"LOG_LEVEL={found.log_level!r} is none of DEBUG, INFO, WARNING, ERROR")


def _check_lists(found: Config) -> None:
    for name, right in GRAMMARS.items():
        try:
            getattr(found, name)
        except ValueError as wrong:
            raise Misconfigured(f"{right}; {wrong}") from None
    try:
        _bytes(found.models_cache_size or "0")
    except ValueError:
        raise Misconfigured(
            f"MODELS_CACHE_SIZE={found.models_cache_size!r} is no size: "
            f"{SETTINGS['models_cache_size'].metadata['about']}"
        ) from None


def _check_urls(found: Config) -> None:
    for name, schemes in SCHEMES.items():
        url = getattr(found, name)
        if url and not url.startswith(schemes):
            raise Misconfigured(
                f"{name.upper()} must begin with {' or '.join(schemes)}: {SETTINGS[name].metadata['about']}"
            )


def _check_queue(found: Config) -> None:
    if found.recovered_share > 1:
        raise Misconfigured("RECOVERED_SHARE must be at most 1: a pool recovers below its marks")
    if found.heartbeat_s * 2 > found.lease_s:
        raise Misconfigured(
            "HEARTBEAT_S must be at most half of LEASE_S, or a lease runs out between two signs of life"
        )


def _check_credits(found: Config) -> None:
    if found.discard_refund_percent > MOST_DISCARD_PERCENT:
        raise Misconfigured(f"DISCARD_REFUND_PERCENT must be at most {MOST_DISCARD_PERCENT}")
    try:
        spending.parse(found.spending_caps or "")
    except ValueError as wrong:
        raise Misconfigured(f"SPENDING_CAPS: {wrong}") from None


def _check_gallery(found: Config) -> None:
    """The periods that pictures are kept for are ones of this calendar."""
    for name in (one for one in SETTINGS if one.startswith("keep_")):
        if (getattr(found, name) or 0) > MOST_DAYS:
            raise Misconfigured(f"{name.upper()} must be at most {MOST_DAYS} days: {SETTINGS[name].metadata['about']}")
    if found.keep_events_days < 1:
        raise Misconfigured("KEEP_EVENTS_DAYS must be at least 1, or an event that comes again would be heard again")


@cache
def config() -> Config:
    """This process's settings."""
    return read(os.environ)
