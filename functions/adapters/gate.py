"""Whether a request may come now: how much of one kind may wait, and what a saturated pool still takes.

What is counted may grow by what comes at the very same moment: these limits keep a queue in bounds, not to the job.
"""

from dataclasses import replace

from sqlalchemy import Connection, text

from functions.adapters import load
from functions.adapters.admission import Admitted
from functions.adapters.load import Look
from functions.config import config
from functions.domain import pressure
from functions.domain.errors import Rejected
from functions.domain.event import Actor
from functions.domain.pressure import Marks, Verdict


def passed(tx: Connection, admitted: Admitted, actor: Actor) -> Admitted:
    """The request as it may come: as it is, or with less of it where it allows that and its pool is saturated.

    Rejected, each with when to come again: `user_waiting_limit`, `role_waiting_limit`, `pool_waiting_limit`,
    `global_waiting_limit`, `queue_saturated`.
    """
    _check_user(tx, admitted, actor)
    _check_role(tx, admitted, actor)
    look = admitted.insight.look
    if look is None:  # Redis counts what waits in pools; without it nobody is refused for that
        return admitted
    _check_pools(admitted, look)
    return _under_pressure(admitted, look, actor)


OF_USER = text("""
SELECT count(*) FROM (
    SELECT FROM generator_job
    WHERE pool = ANY(CAST(:pools AS text[])) AND user_id = :user_id AND state = 'queued' LIMIT :limit
) AS waiting
""")


def _check_user(tx: Connection, admitted: Admitted, actor: Actor) -> None:
    limit = config().max_waiting_per_user
    asked = {"pools": list(config().pool_names), "user_id": actor.user_id, "limit": limit}
    if limit and tx.execute(OF_USER, asked).scalar_one() >= limit:
        raise _full("user_waiting_limit", f"{limit} jobs of yours wait already", admitted)


OF_ROLE = text("""
SELECT count(*) FROM (SELECT FROM generator_job WHERE role = :role AND state = 'queued' LIMIT :limit) AS waiting
""")


def _check_role(tx: Connection, admitted: Admitted, actor: Actor) -> None:
    limit = config().waiting_limits_of_roles.get(actor.role.upper())
    if limit is not None and tx.execute(OF_ROLE, {"role": actor.role, "limit": limit}).scalar_one() >= limit:
        raise _full("role_waiting_limit", f"{limit} jobs of the role {actor.role} wait already", admitted)


def _check_pools(admitted: Admitted, look: Look) -> None:
    of_pool, of_all = config().max_waiting_per_pool, config().max_waiting
    if of_pool and look.load.backlog >= of_pool:
        raise _full("pool_waiting_limit", f"{of_pool} jobs wait in pool {admitted.pool} already", admitted)
    if of_all and load.waiting(config().pool_names) >= of_all:
        raise _full("global_waiting_limit", f"{of_all} jobs wait already", admitted)


def _full(code: str, detail: str, admitted: Admitted) -> Rejected:
    """Come again when about one job will have left the line."""
    wait_s = admitted.insight.known.served_ms / 1000 / max(1, admitted.insight.workers)
    retry_after_s = round(min(pressure.MOST_RETRY_S, max(pressure.LEAST_RETRY_S, wait_s)))
    return Rejected(code, f"{detail}: wait until some are done, or call some off", retry_after_s=retry_after_s)


def _under_pressure(admitted: Admitted, look: Look, actor: Actor) -> Admitted:
    settings = config()
    marks = Marks(
        depth=settings.saturated_depth, wait_s=settings.saturated_wait_s, recovered_share=settings.recovered_share
    )
    drain_s = admitted.insight.drain_s
    level = marks.level(look.load, drain_s=drain_s)
    saturated = marks.saturated(level, was=look.saturated)
    if saturated != look.saturated:
        load.remember_saturated(admitted.pool, saturated)
    verdict = pressure.verdict(
        level,
        saturated=saturated,
        pressed=actor.role.upper() in settings.pressed_roles,
        may_degrade=admitted.asked.may_degrade,
    )
    if verdict is Verdict.FLOWS:
        return admitted
    smaller = pressure.less(admitted.workflow, admitted.parameters) if verdict is Verdict.GETS_LESS else {}
    if not smaller:
        raise Rejected(
            "queue_saturated",
            f"pool {admitted.pool} has {look.load.backlog} jobs waiting, more than it can bear: "
            f"{actor.role} may ask again when it has recovered",
            retry_after_s=marks.retry_after_s(level, drain_s=drain_s),
        )
    changed = {name: {"asked": admitted.parameters[name], "given": given} for name, given in smaller.items()}
    return replace(admitted, parameters={**admitted.parameters, **smaller}, degraded=changed)
