"""The queue, for everyone who may ask for pictures: which pools there are, how full they are and how long they take."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.adapters import controls, outlook, postgres
from functions.adapters.load import Look
from functions.adapters.outlook import Insight
from functions.api.identity import Asker
from functions.api.problem import documented
from functions.api.waits import WaitView
from functions.config import config

router = APIRouter(prefix="/v1/queue", tags=["queue"])


class DepthView(BaseModel):
    """Jobs of a pool by where they stand."""

    waiting: int = Field(description="a GPU could take them this instant")
    held: int = Field(description="their user or role has as many in the pool as it may have at once")
    parked: int = Field(description="the pool is closed")
    delayed: int = Field(description="their next try has a moment")
    running: int


class PoolView(BaseModel):
    """A pool; `wait` is what a job of the asker's would meet that came now. Null: it cannot be seen right now."""

    name: str
    tags: list[str]
    vram_gib: float | None
    max_workers: int = Field(description="GPUs that may be at work at once")
    mode: Literal["open", "paused", "draining"]
    depth: DepthView | None
    saturated: bool | None = Field(description="whether it refuses the roles that a saturated pool refuses")
    wait: WaitView
    words: str


class QueueView(BaseModel):
    """Every pool, in the order they are configured."""

    pools: list[PoolView]


@router.get("", responses=documented())
def queue(actor: Asker) -> QueueView:
    """How full the pools are, and how long each would keep one waiting."""
    looks = {name: outlook.look(name, user_id=actor.user_id, role=actor.role) for name in config().pool_names}
    with postgres.transaction() as tx:
        insights = outlook.insights(tx, looks, orders=controls.pools(tx), role=actor.role)
    return QueueView(pools=[_pool(insight) for insight in insights.values()])


def _pool(insight: Insight) -> PoolView:
    spec, look = config().pool_specs[insight.pool], insight.look
    wait = WaitView.of(insight.outlook())
    return PoolView(
        name=spec.name,
        tags=sorted(spec.tags),
        vram_gib=spec.vram_gib,
        max_workers=insight.workers,
        mode=insight.order.mode if insight.order else "open",
        depth=_depth(look) if look else None,
        saturated=look.saturated if look else None,
        wait=wait,
        words=_words(insight, wait),
    )


def _depth(look: Look) -> DepthView:
    now = look.load
    return DepthView(waiting=now.waiting, held=now.held, parked=now.parked, delayed=now.delayed, running=now.leased)


def _words(insight: Insight, wait: WaitView) -> str:
    """The pool in a sentence or two."""
    if insight.look is None or wait.p50_s is None:
        return wait.words
    now = insight.look.load
    waiting = f"{now.backlog} {'job waits' if now.backlog == 1 else 'jobs wait'}" if now.backlog else "No job waits"
    running = f"{now.leased} of at most {insight.workers} {'GPU is' if insight.workers == 1 else 'GPUs are'} at work"
    return f"{waiting} in pool {insight.pool}, {running}. A job that came now would wait {wait.words}."
