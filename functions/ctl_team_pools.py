"""vsgen credits pool: teams that share an account, from which their members' jobs are paid (TEAM_POOLS=on)."""

from dataclasses import asdict
from typing import Annotated

import typer

from functions.adapters import postgres, team_pools
from functions.ctl_admin import asking
from functions.ctl_say import Json, say, table
from functions.domain.refresh import Period

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)
PoolId = Annotated[str, typer.Argument(metavar="TEAM", help="the team's id; its account is pool:<id>")]
User = Annotated[str, typer.Argument(metavar="USER", help="a user's id")]
Cap = Annotated[int | None, typer.Option(min=0, help="the most they may spend of it in this time (UTC)")]


@app.command()
def create(
    pool_id: PoolId, name: Annotated[str, typer.Option(help="what people call it")] = "", as_json: Json = False
) -> None:
    """Make a team. Its account begins empty: `vsgen credits grant pool:<id>` fills it."""
    by = asking()
    with postgres.transaction() as tx:
        team_pools.create(tx, pool_id, name=name or pool_id, by=by.user_id)
        made = team_pools.get(tx, pool_id)
    say(asdict(made), as_json, f"team {pool_id} is there; its account is {made.account}")


@app.command()
def close(pool_id: PoolId, as_json: Json = False) -> None:
    """Let nothing more be paid from a team's account. What it holds stays, and can be revoked."""
    asking()
    with postgres.transaction() as tx:
        team_pools.close(tx, pool_id)
        closed = team_pools.get(tx, pool_id)
    say(asdict(closed), as_json, f"team {pool_id} is closed; its account holds {closed.balance} credits")


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Every team and what its account holds."""
    with postgres.transaction() as tx:
        found = team_pools.listing(tx, limit=1000)
    rows: list[tuple[object, ...]] = [
        (one.id, one.name, one.balance, "closed" if one.closed_at else "open") for one in found
    ]
    text = table(("team", "name", "credits", "standing"), rows) if rows else "no teams"
    say({"pools": [asdict(one) for one in found]}, as_json, text)


@app.command()
def members(pool_id: PoolId, as_json: Json = False) -> None:
    """Who may spend a team's credits, what they have spent of them and how much they may."""
    with postgres.transaction() as tx:
        team_pools.get(tx, pool_id)
        found = team_pools.members(tx, pool_id)
    rows: list[tuple[object, ...]] = [(one.user_id, *(_so_far(one, period) for period in Period)) for one in found]
    text = table(("member", *(f"this {period}" for period in Period)), rows) if rows else "no members"
    say({"members": [asdict(one) for one in found]}, as_json, text)


@app.command("add")
def put(
    pool_id: PoolId, user_id: User, day: Cap = None, week: Cap = None, month: Cap = None, as_json: Json = False
) -> None:
    """Make a user a member, or change a member's caps. A cap that is not named stays as it was."""
    by = asking()
    caps = {str(period): cap for period, cap in zip(Period, (day, week, month), strict=True) if cap is not None}
    with postgres.transaction() as tx:
        team_pools.put(tx, pool_id, user_id, by=by.user_id, caps=caps)
        [member] = team_pools.members(tx, pool_id, user_id=user_id)
    say(asdict(member), as_json, f"{user_id} may spend credits of team {pool_id}")


@app.command()
def remove(pool_id: PoolId, user_id: User, as_json: Json = False) -> None:
    """Let a member go. What they have spent stays in the statement."""
    asking()
    with postgres.transaction() as tx:
        team_pools.remove(tx, pool_id, user_id)
    say({"pool_id": pool_id, "user_id": user_id}, as_json, f"{user_id} is in team {pool_id} no more")


def _so_far(one: team_pools.Member, period: str) -> str:
    cap = one.caps.get(period)
    return f"{one.spent[period]}" if cap is None else f"{one.spent[period]} of {cap}"
