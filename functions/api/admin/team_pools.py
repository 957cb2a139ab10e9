"""Team pools: accounts that several users' jobs are paid from (TEAM_POOLS=on)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar

from annotated_types import Interval, Len, Predicate
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from functions.adapters import postgres, team_pools
from functions.api import body
from functions.api.admin.identity import AsAdmin
from functions.api.problem import documented
from functions.domain.refresh import Period
from functions.domain.request import CLOSED
from functions.domain.text import storable

router = APIRouter(prefix="/v1/admin/team-pools", tags=["admin"])
PoolId = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
UserId = Annotated[str, Path(pattern=r"^[^\x00]{1,128}$")]
Cap = Annotated[int, Interval(ge=0, le=1_000_000_000)] | None


@dataclass(frozen=True, kw_only=True)
class TeamRequest:
    """A team to make: its id, which becomes the account `pool:<id>`, and what people call it."""

    __pydantic_config__: ClassVar = CLOSED
    id: Annotated[str, Len(1, 64), Predicate(storable)]
    name: Annotated[str, Len(1, 200), Predicate(storable)]


@dataclass(frozen=True, kw_only=True)
class MemberRequest:
    """The most that a member may spend of the team's credits in a UTC day, week or month; what is left out stays."""

    __pydantic_config__: ClassVar = CLOSED
    day: Cap = None
    week: Cap = None
    month: Cap = None


class TeamView(BaseModel):
    """A team and what its account holds; nothing is paid from a closed one."""

    id: str
    name: str
    account: str
    balance: int
    created_by: str
    created_at: datetime
    closed_at: datetime | None


class MemberView(BaseModel):
    """A member: what they have spent of the team's credits this day, week and month, and may."""

    user_id: str
    added_by: str
    added_at: datetime
    spent: dict[str, int]
    caps: dict[str, int]


class TeamList(BaseModel):
    """Teams by their ids; where there are as many as were asked for, the last id is the next page's `after`."""

    pools: list[TeamView]


class MemberList(BaseModel):
    """A team's members by their ids."""

    members: list[MemberView]


def _view(team: team_pools.TeamPool) -> TeamView:
    return TeamView.model_validate(team, from_attributes=True)


@router.get("", responses=documented(403))
def listing(
    by: AsAdmin,
    after: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TeamList:
    """Every team."""
    with postgres.transaction() as tx:
        return TeamList(pools=[_view(team) for team in team_pools.listing(tx, after=after, limit=limit)])


@router.post(
    "",
    status_code=201,
    openapi_extra=body.documented(TeamRequest),
    responses=documented(400, 403, 409, 413, 415),
)
def create(by: AsAdmin, raw: body.Raw) -> TeamView:
    """Make a team. Its account begins empty; a grant fills it."""
    asked = body.parse(TeamRequest, raw)
    with postgres.transaction() as tx:
        team_pools.create(tx, asked.id, name=asked.name, by=by.user_id)
        return _view(team_pools.get(tx, asked.id))


@router.delete("/{pool_id}", responses=documented(403, 404))
def close(pool_id: PoolId, by: AsAdmin) -> TeamView:
    """Let nothing more be paid from a team's account; what it holds stays. Doing so again changes nothing."""
    with postgres.transaction() as tx:
        team_pools.close(tx, pool_id)
        return _view(team_pools.get(tx, pool_id))


@router.get("/{pool_id}/members", responses=documented(403, 404))
def members(pool_id: PoolId, by: AsAdmin) -> MemberList:
    """Who may spend the team's credits."""
    with postgres.transaction() as tx:
        team_pools.get(tx, pool_id)
        found = team_pools.members(tx, pool_id)
    return MemberList(members=[MemberView.model_validate(one, from_attributes=True) for one in found])


@router.put(
    "/{pool_id}/members/{user_id}",
    openapi_extra=body.documented(MemberRequest),
    responses=documented(400, 403, 404, 413, 415),
)
def put(pool_id: PoolId, user_id: UserId, by: AsAdmin, raw: body.Raw) -> MemberView:
    """Make a user a member, or change a member's caps."""
    asked = body.parse(MemberRequest, raw)
    named = {str(period): getattr(asked, period) for period in Period}
    caps = {period: cap for period, cap in named.items() if cap is not None}
    with postgres.transaction() as tx:
        team_pools.put(tx, pool_id, user_id, by=by.user_id, caps=caps)
        [member] = team_pools.members(tx, pool_id, user_id=user_id)
    return MemberView.model_validate(member, from_attributes=True)


@router.delete("/{pool_id}/members/{user_id}", responses=documented(403, 404))
def remove(pool_id: PoolId, user_id: UserId, by: AsAdmin) -> TeamView:
    """Let a member go. What they have spent stays in the statement."""
    with postgres.transaction() as tx:
        team_pools.remove(tx, pool_id, user_id)
        return _view(team_pools.get(tx, pool_id))
