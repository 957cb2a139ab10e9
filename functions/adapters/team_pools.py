"""Teams that share an account: who is in them, what each member may spend, and whether a job may be paid from one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from functions.config import config
from functions.domain import transfer
from functions.domain.errors import Rejected

PREFIX = "pool:"
POOL_ID = r"[a-z0-9][a-z0-9_-]{0,63}"


@dataclass(frozen=True, kw_only=True)
class TeamPool:
    """A team and what its account holds; a closed one pays for nothing."""

    id: str
    name: str
    created_by: str
    created_at: datetime
    closed_at: datetime | None
    balance: int

    @property
    def account(self) -> str:
        return transfer.pool(self.id)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member: what they have spent of the team's credits this day, week and month (UTC), and may at the most."""

    pool_id: str
    user_id: str
    added_by: str
    added_at: datetime
    spent: dict[str, int]
    caps: dict[str, int]


def payer(tx: Connection, user_id: str, pay_from: str | None) -> str | None:
    """The team's account that a request wants to be paid from; None when it is the asker's own. Rejected when teams are
    off here, or the asker is no member of an open one of this name."""
    if pay_from is None:
        return None
    if config().team_pools != "on":
        raise Rejected(
            "team_pools_off", "jobs are paid from one's own credits here: leave pay_from out", field="pay_from"
        )
    if member(tx, pay_from, user_id) is None or opened(tx, pay_from.removeprefix(PREFIX)) is None:
        raise Rejected("unknown_team_pool", f"you are in no team with the account {pay_from[:80]!r}", field="pay_from")
    return pay_from


CREATE = text("""
INSERT INTO generator_team_pool (id, name, created_by) VALUES (:id, :name, :by) ON CONFLICT (id) DO NOTHING
""")


def create(tx: Connection, pool_id: str, *, name: str, by: str) -> None:
    """Make a team; Rejected when its id is taken or no id."""
    if not re.fullmatch(POOL_ID, pool_id):
        raise Rejected("team_pool_id_invalid", "a team's id is 1 to 64 small letters, digits, - and _", field="id")
    if tx.execute(CREATE, {"id": pool_id, "name": name, "by": by}).rowcount == 0:
        raise Rejected("team_pool_exists", f"there is a team {pool_id} already", field="id")


CLOSE = text("UPDATE generator_team_pool SET closed_at = now() WHERE id = :id AND closed_at IS NULL")


def close(tx: Connection, pool_id: str) -> None:
    """Let nothing more be paid from a team's account; what it holds stays, and jobs already paid go on."""
    get(tx, pool_id)
    tx.execute(CLOSE, {"id": pool_id})


POOL = """
SELECT pool.id, pool.name, pool.created_by, pool.created_at, pool.closed_at, coalesce(held.balance, 0) AS balance
FROM generator_team_pool AS pool LEFT JOIN generator_credit_account AS held ON held.id = 'pool:' || pool.id
"""
GET = text(f"{POOL} WHERE pool.id = :id")


def get(tx: Connection, pool_id: str) -> TeamPool:
    """A team and its balance; Rejected when there is none of this id."""
    row = tx.execute(GET, {"id": pool_id}).one_or_none()
    if row is None:
        raise Rejected("unknown_team_pool", f"there is no team {pool_id[:64]!r}", field="pool_id")
    return TeamPool(**row._mapping)


def opened(tx: Connection, pool_id: str) -> TeamPool | None:
    """The team, if there is one of this id that was not closed."""
    row = tx.execute(GET, {"id": pool_id}).one_or_none()
    return None if row is None or row.closed_at else TeamPool(**row._mapping)


LISTED = text(f"{POOL} WHERE pool.id > :after ORDER BY pool.id LIMIT :limit")
OF_USER = text(f"""{POOL}
JOIN generator_team_member AS own ON own.pool_id = pool.id
WHERE own.user_id = :user_id AND pool.closed_at IS NULL ORDER BY pool.id
""")


def listing(tx: Connection, *, after: str = "", limit: int = 100) -> list[TeamPool]:
    """Every team by its id, from just above `after`."""
    return [TeamPool(**row._mapping) for row in tx.execute(LISTED, {"after": after, "limit": limit})]


def of_user(tx: Connection, user_id: str) -> list[TeamPool]:
    """The open teams this user is a member of."""
    return [TeamPool(**row._mapping) for row in tx.execute(OF_USER, {"user_id": user_id})]


JOIN = text("""
INSERT INTO generator_team_member (pool_id, user_id, added_by) VALUES (:pool_id, :user_id, :by) ON CONFLICT DO NOTHING
""")
CAP = text("""
INSERT INTO generator_spending_cap (spender, period, credits, set_by) VALUES (:spender, :period, :credits, :by)
ON CONFLICT (spender, period) DO UPDATE SET credits = excluded.credits, set_by = excluded.set_by, at = now()
""")


def put(tx: Connection, pool_id: str, user_id: str, *, by: str, caps: dict[str, int]) -> None:
    """Make a user a member, or change what a member may spend: credits by period (`day`, `week`, `month`). A period
    that is not named stays as it was."""
    get(tx, pool_id)
    if not 1 <= len(user_id) <= 128 or not user_id.isprintable():
        raise Rejected("invalid_request", "a user's id is 1 to 128 printable characters", field="user_id")
    tx.execute(JOIN, {"pool_id": pool_id, "user_id": user_id, "by": by})
    for period, credits in caps.items():
        tx.execute(CAP, {"spender": spender(pool_id, user_id), "period": period, "credits": credits, "by": by})


LEAVE = text("DELETE FROM generator_team_member WHERE pool_id = :pool_id AND user_id = :user_id")
UNCAP = text("DELETE FROM generator_spending_cap WHERE spender = :spender")


def remove(tx: Connection, pool_id: str, user_id: str) -> None:
    """Let a member go, and their caps with them; Rejected when they are none. What they have spent stays told."""
    get(tx, pool_id)
    if tx.execute(LEAVE, {"pool_id": pool_id, "user_id": user_id}).rowcount == 0:
        raise Rejected("unknown_member", f"{user_id[:64]!r} is no member of team {pool_id}", field="user_id")
    tx.execute(UNCAP, {"spender": spender(pool_id, user_id)})


MEMBERS = text("""
SELECT own.pool_id, own.user_id, own.added_by, own.added_at,
       coalesce(jsonb_object_agg(so_far.period, so_far.spent), '{}') AS spent,
       coalesce(jsonb_object_agg(so_far.period, cap.credits) FILTER (WHERE cap.credits IS NOT NULL), '{}') AS caps
FROM generator_team_member AS own
CROSS JOIN LATERAL generator_ledger_spent(ARRAY['pool:' || own.pool_id || '/member:' || own.user_id],
                                          CAST(:today AS date)) AS so_far
LEFT JOIN generator_spending_cap AS cap ON cap.spender = so_far.spender AND cap.period = so_far.period
WHERE own.pool_id = :pool_id AND (CAST(:user_id AS text) IS NULL OR own.user_id = :user_id)
GROUP BY own.pool_id, own.user_id ORDER BY own.user_id
""")


def members(tx: Connection, pool_id: str, *, user_id: str | None = None) -> Sequence[Member]:
    """A team's members by their ids, or this one of them, with what each has spent and may spend."""
    asked = {"pool_id": pool_id, "user_id": user_id, "today": datetime.now(UTC).date()}
    return [Member(**row._mapping) for row in tx.execute(MEMBERS, asked)]


IS_MEMBER = text("SELECT added_at FROM generator_team_member WHERE pool_id = :pool_id AND user_id = :user_id")


def member(tx: Connection, account_: str, user_id: str) -> datetime | None:
    """Since when this user may spend what this account holds; None for who may not, and for an account that is no
    team's."""
    kind, _, pool_id = account_.partition(":")
    if kind != "pool":
        return None
    since: datetime | None = tx.execute(IS_MEMBER, {"pool_id": pool_id, "user_id": user_id}).scalar()
    return since


def spender(pool_id: str, user_id: str) -> str:
    """A member, as the ledger's caps and running sums know one."""
    return transfer.spenders(transfer.pool(pool_id), member=user_id)[1]
