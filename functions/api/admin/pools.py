"""Pools: what each is and how much waits there; paused, drained and let work again. And the record of all acts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from functions import operate
from functions.adapters import acts, postgres
from functions.adapters.controls import PoolControl
from functions.api import body
from functions.api.admin.role import Admin, by
from functions.api.cursor import Limit
from functions.api.problem import documented
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.request import CLOSED, Reason
from functions.operate import Mode, Pool

router = APIRouter(prefix="/v1/admin", tags=["admin"])


class OrderView(BaseModel):
    """Who ordered it, when and why."""

    mode: Literal["paused", "draining"]
    reason: str
    by: str
    at: datetime


class PoolView(BaseModel):
    """A pool: what it offers, and what operators have ordered. vram_gib: null where enough for all is assumed."""

    name: str
    vram_gib: float | None
    max_workers: int
    tags: list[str]
    mode: Mode
    order: OrderView | None


class DepthView(BaseModel):
    """A pool's jobs by where they stand. closed: the reasons for which nothing is claimed just now: `operator`; `limit`
    and `total` while as many run as may, in this pool and in all together."""

    pool: str
    mode: Mode
    closed: list[str]
    waiting: int
    leased: int
    delayed: int
    held: int
    parked: int


class Pools(BaseModel):
    """Every pool, in the order they are configured."""

    pools: list[PoolView]


class Queue(BaseModel):
    """How much stands where."""

    pools: list[DepthView]


class ActView(BaseModel):
    """Who did what to what, when and why."""

    number: int
    at: datetime
    by: str
    act: str
    subject: str
    reason: str


class Acts(BaseModel):
    """A page, the latest first; `next_before` is missing on the last."""

    acts: list[ActView]
    next_before: int | None = None


@dataclass(frozen=True, kw_only=True)
class PoolOrder:
    """What a pool is to do; all but `working` wants a reason."""

    __pydantic_config__: ClassVar = CLOSED
    mode: Mode
    reason: Reason = ""


@router.get("/queue", responses=documented(403))
def depths(actor: Admin) -> Queue:
    """Every pool's jobs, by where they stand."""
    return Queue(pools=[_depth(pool) for pool in operate.pools()])


@router.get("/queue/acts", responses=documented(403, 422))
def history(
    actor: Admin,
    limit: Limit = 50,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="`next_before` of the page before")] = None,
) -> Acts:
    """What operators did, and why: the latest first."""
    with postgres.transaction() as tx:
        found = acts.latest(tx, before=before, limit=limit + 1)
    page = found[:limit]
    return Acts(
        acts=[ActView(**vars(one)) for one in page],
        next_before=page[-1].number if len(found) > limit else None,
    )


@router.get("/pools", responses=documented(403))
def listing(actor: Admin) -> Pools:
    """Every pool, and what was ordered of it."""
    return _listed()


@router.put("/pools", openapi_extra=body.documented(PoolOrder), responses=documented(400, 403, 413, 415, 422))
def order_all(actor: Admin, raw: body.Raw) -> Pools:
    """One order for all pools."""
    _give(list(config().pool_names), body.parse(PoolOrder, raw), by(actor))
    return _listed()


@router.put(
    "/pools/{pool}", openapi_extra=body.documented(PoolOrder), responses=documented(400, 403, 404, 413, 415, 422)
)
def order(pool: str, actor: Admin, raw: body.Raw) -> PoolView:
    """Pause a pool, drain it, or let it work again. The order stands until another is given."""
    _give([pool], body.parse(PoolOrder, raw), by(actor))
    [found] = [one for one in _listed().pools if one.name == pool]
    return found


def _give(names: list[str], order: PoolOrder, by: str) -> None:
    if order.mode == "working":
        return operate.resume(names, by=by, reason=order.reason)
    if not order.reason:
        raise Rejected("reason_missing", f"say why {', '.join(names)} is {order.mode}", field="reason")
    give = operate.pause if order.mode == "paused" else operate.drain
    return give(names, by=by, reason=order.reason)


def _listed() -> Pools:
    return Pools(pools=[_pool(pool) for pool in operate.pools()])


def _pool(pool: Pool) -> PoolView:
    return PoolView(
        name=pool.spec.name,
        vram_gib=pool.spec.vram_gib,
        max_workers=pool.spec.max_workers,
        tags=sorted(pool.spec.tags),
        mode=pool.mode,
        order=_order(pool.order),
    )


def _order(order: PoolControl | None) -> OrderView | None:
    return None if order is None else OrderView(mode=order.mode, reason=order.reason, by=order.by, at=order.at)


def _depth(pool: Pool) -> DepthView:
    return DepthView(pool=pool.spec.name, mode=pool.mode, closed=sorted(pool.closed), **pool.depth)
