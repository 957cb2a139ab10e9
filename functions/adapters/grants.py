"""Grants as admins ask for, approve and refuse them. Who writes them here cannot move credits: `earn` does, on news of
an approved one, and it can write none."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import DBAPIError

from functions.adapters import ledger, outbox, team_pools
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import Actor, CreditsTransferred, GrantApproved
from functions.domain.grant import Grant, Kind, Policy, Standing
from functions.domain.transfer import account

SOURCE = "/functions/api"
ADMIN = "ADMIN"


@dataclass(frozen=True, kw_only=True)
class Admin:
    """An admin, and the signed word by which this is known: the digest of a token, say."""

    user_id: str
    instruction: str


def admin(actor: Actor, instruction: str) -> Admin:
    """This actor as an admin; Rejected when it is none."""
    if actor.role != ADMIN:
        raise Rejected("role_not_allowed", f"{actor.role} may not do this: admins may")
    return Admin(user_id=actor.user_id, instruction=instruction)


def policy() -> Policy:
    """What one admin may give alone, and how long a second has time."""
    return Policy(limit=config().grant_limit_credits, approval=timedelta(hours=config().grant_approval_h))


COLUMNS = ", ".join(f"asked.{field.name}" for field in fields(Grant) if field.name not in ("moved_at", "failure"))
FOUND = f"""
SELECT {COLUMNS}, moved.at AS moved_at, failed.detail AS failure FROM generator_credit_grant AS asked
LEFT JOIN generator_credit_grant_failure AS failed ON failed.grant_id = asked.id
LEFT JOIN generator_credit_transaction AS moved ON moved.id = asked.account || ':'
    || CASE asked.kind WHEN 'grant' THEN 'grant' ELSE 'adjustment' END || ':' || asked.id
"""  # noqa: S608

ADD = text("""
INSERT INTO generator_credit_grant (id, account, amount, kind, reason, requested_by, instruction, needs_approval)
VALUES (:id, :account, :amount, :kind, :reason, :requested_by, :instruction, :needs_approval)
ON CONFLICT (id) DO NOTHING
""")


def ask(
    tx: Connection, by: Admin, *, account_: str, amount: int, kind: Kind, reason: str, id: str | None = None
) -> Grant | None:
    """Write down what an admin asks for, and tell of it when nobody else need approve it; None when this id was asked
    for before."""
    asked = {
        "id": id or f"grant-{uuid.uuid4().hex[:12]}",
        "account": account_,
        "amount": amount,
        "kind": kind,
        "reason": reason,
        "requested_by": by.user_id,
        "instruction": by.instruction,
        "needs_approval": needs_second(tx, by, account_, amount),
    }
    if tx.execute(ADD, asked).rowcount == 0:
        return None
    kept = found(tx, str(asked["id"]))
    _tell(tx, kept)
    return kept


def give(tx: Connection, by: Admin, user_id: str, credits: int, *, id: str, reason: str) -> CreditsTransferred | None:
    """Write a grant down and carry it out in one go, once by its id: for a login that may do both, as the one for all
    functions may. None when it was given before; an error when it needs a second admin."""
    asked = {"id": id, "account": account(user_id), "amount": credits, "kind": Kind.GRANT, "reason": reason}
    proofs = {"requested_by": by.user_id, "instruction": by.instruction, "needs_approval": False}
    tx.execute(ADD, asked | proofs)
    return ledger.post(tx, found(tx, id).transfer())


def needs_second(tx: Connection, by: Admin, account_: str, amount: int) -> bool:
    """Whether this admin cannot give this alone: it is too much, or the admin has something of it. The table's own
    trigger asks for a second admin as well, where its bound is lower than ours."""
    return amount > 0 and (amount > policy().limit or _has_of(tx, by.user_id, account_))


APPROVE = text("""
UPDATE generator_credit_grant SET approved_by = :approved_by, approval = :approval WHERE id = :id
""")


def approve(tx: Connection, by: Admin, grant_id: str) -> Grant:
    """Say yes as the second admin. Of two who say so at once, one is told that it is decided."""
    asked = found(tx, grant_id, lock=True)
    approved = asked.approved(by.user_id, approval=by.instruction, policy=policy(), now=datetime.now(UTC))
    if _has_of(tx, by.user_id, asked.account):
        raise Rejected("second_admin_needed", "you may spend what this grant is for: another admin must approve it")
    try:
        tx.execute(APPROVE, vars(approved))
    except DBAPIError as error:
        if "generator_credit_grant_late" in str(error.orig):  # the ledger's own bound is shorter than what is set
            raise Rejected("grant_expired", f"grant {grant_id} has waited for too long: ask for it again") from None
        raise
    _tell(tx, approved)
    return approved


REFUSE = text("UPDATE generator_credit_grant SET withdrawn_by = :withdrawn_by, refusal = :refusal WHERE id = :id")


def refuse(tx: Connection, by: Admin, grant_id: str, *, why: str) -> Grant:
    """Say no, for good; whoever asked may take it back the same way."""
    asked = found(tx, grant_id, lock=True)
    refused = asked.refused(by.user_id, why=why, policy=policy(), now=datetime.now(UTC))
    tx.execute(REFUSE, vars(refused))
    return refused


FAIL = text("""
INSERT INTO generator_credit_grant_failure (grant_id, detail) VALUES (:id, :detail) ON CONFLICT DO NOTHING
""")


def fail(tx: Connection, grant: Grant, detail: str) -> None:
    """Write down that an approved grant could not be carried out, for good: it has to be asked for anew."""
    tx.execute(FAIL, {"id": grant.id, "detail": detail})


ONE = text(f"{FOUND} WHERE asked.id = :id")
LOCKED = text(f"{FOUND} WHERE asked.id = :id FOR UPDATE OF asked")


def found(tx: Connection, grant_id: str, *, lock: bool = False) -> Grant:
    """The grant of this id; with `lock`, held for this transaction. Rejected when there is none."""
    row = tx.execute(LOCKED if lock else ONE, {"id": grant_id}).one_or_none()
    if row is None:
        raise Rejected("unknown_grant", f"there is no grant {grant_id[:64]!r}", field="grant_id")
    return _grant(row)


LISTED = text(f"""{FOUND}
WHERE (CAST(:before_at AS timestamptz) IS NULL OR (asked.requested_at, asked.id) < (:before_at, :before_id))
  AND (CAST(:account AS text) IS NULL OR asked.account = :account)
  AND (NOT :open OR (asked.needs_approval AND asked.approved_at IS NULL AND asked.withdrawn_at IS NULL
                     AND asked.requested_at > :since))
ORDER BY asked.requested_at DESC, asked.id DESC LIMIT :limit
""")


def listing(
    tx: Connection,
    *,
    account_: str | None = None,
    only_open: bool = False,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[Grant]:
    """Grants, newest first, from just below `before` (a time and an id); only_open: those that wait for a second
    admin."""
    before_at, before_id = before or (None, None)
    asked = {
        "account": account_,
        "open": only_open,
        "since": datetime.now(UTC) - policy().approval,
        "before_at": before_at,
        "before_id": before_id,
        "limit": limit,
    }
    return [_grant(row) for row in tx.execute(LISTED, asked)]


KNOWN = text("SELECT id FROM generator_credit_grant WHERE id = ANY(:ids)")


def known(tx: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these were asked for before."""
    return set(tx.execute(KNOWN, {"ids": list(ids)}).scalars())


def _has_of(tx: Connection, user_id: str, account_: str) -> bool:
    """Whether this user gets something of what the account gets: it is theirs, or a pool's they may spend from."""
    return account_ == account(user_id) or team_pools.member(tx, account_, user_id) is not None


def _tell(tx: Connection, grant: Grant) -> None:
    if grant.standing(policy(), grant.requested_at) is Standing.APPROVED:
        outbox.put(tx, SOURCE, [GrantApproved(job_id="", grant_id=grant.id)])


def _grant(row: Row[Any]) -> Grant:
    values = dict(row._mapping)
    return Grant(**values | {"kind": Kind(values["kind"])})
