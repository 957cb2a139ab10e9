"""Grants: admins give and take credits, above a limit two of them together."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval, Len, Predicate
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from functions.adapters import grants, ledger, postgres
from functions.api import body, cursor, idempotency
from functions.api.admin.identity import AsAdmin
from functions.api.problem import documented
from functions.domain.errors import InsufficientCredits, Rejected
from functions.domain.grant import Grant, Kind, Standing
from functions.domain.request import CLOSED
from functions.domain.text import storable
from functions.domain.transfer import account, pool

router = APIRouter(prefix="/v1/admin/grants", tags=["admin"])
Who = Annotated[str, Len(1, 128), Predicate(str.isprintable)]
Why = Annotated[str, Len(1, 500), Predicate(storable)]
ACCOUNT = r"^(user|pool):[^\x00]{1,128}$"
PATH: dict[str, Any] = {"responses": documented(403, 404, 409)}


@dataclass(frozen=True, kw_only=True)
class GrantRequest:
    """Credits for a user, or for a team by its id; `revocation` takes them away instead."""

    __pydantic_config__: ClassVar = CLOSED
    user_id: Who | None = None
    pool_id: Who | None = None
    credits: Annotated[int, Interval(ge=1, le=1_000_000_000)]
    kind: Literal["grant", "revocation"] = "grant"
    reason: Why


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a grant is not to be."""

    __pydantic_config__: ClassVar = CLOSED
    reason: Why


class GrantView(BaseModel):
    """A grant as it stands. pending: a second admin has to approve it. approved: the credits are about to move. done:
    they have. failed: the account held too little. `amount` below zero takes credits away."""

    id: str
    standing: Standing
    account: str
    amount: int
    kind: Kind
    reason: str
    requested_by: str
    requested_at: datetime
    needs_approval: bool
    approve_by: datetime | None
    approved_by: str | None
    approved_at: datetime | None
    refused_by: str | None
    refused_at: datetime | None
    refusal: str | None
    failure: str | None
    transaction_id: str | None
    moved_at: datetime | None

    @classmethod
    def of(cls, one: Grant) -> "GrantView":
        policy = grants.policy()
        values = {name: value for name, value in vars(one).items() if name in cls.model_fields}
        return cls(
            **values,
            standing=one.standing(policy, datetime.now(UTC)),
            approve_by=one.requested_at + policy.approval if one.needs_approval else None,
            refused_by=one.withdrawn_by,
            refused_at=one.withdrawn_at,
            transaction_id=one.transfer_id if one.moved_at else None,
        )


class GrantPage(BaseModel):
    """Grants, newest first; without `next_cursor` it is the last page."""

    grants: list[GrantView]
    next_cursor: str | None = None


@router.post(
    "",
    status_code=202,
    openapi_extra=body.documented(GrantRequest),
    responses=documented(400, 402, 403, 409, 413, 415),
)
def ask(by: AsAdmin, raw: body.Raw, response: Response, key: idempotency.Key = None) -> GrantView:
    """Ask for credits to be given or taken. Within the limit they move at once; above it, or for oneself, when a second
    admin has approved it. The same request again under its key is the same grant."""
    asked = body.parse(GrantRequest, raw)
    if (asked.user_id is None) == (asked.pool_id is None):
        raise Rejected("invalid_request", "name either a user_id or a pool_id", field="user_id")
    to = account(asked.user_id) if asked.user_id is not None else pool(f"{asked.pool_id}")
    kind = Kind(asked.kind)
    amount = asked.credits if kind is Kind.GRANT else -asked.credits
    id = idempotency.grant_id(by.user_id, key)
    with postgres.transaction() as tx:
        held = ledger.balance(tx, to)
        made = grants.ask(tx, by, account_=to, amount=amount, kind=kind, reason=asked.reason, id=id)
        if made is None:
            made = grants.found(tx, id)
            if (made.account, made.amount, made.reason) != (to, amount, asked.reason):
                raise Rejected("idempotency_key_reused", "this Idempotency-Key was used for another grant")
        elif held + amount < 0:
            raise Rejected("insufficient_credits", str(InsufficientCredits(to, balance=held, needed=-amount)))
    response.headers["Location"] = f"/v1/admin/grants/{made.id}"
    return GrantView.of(made)


@router.get("", responses=documented(403, 422))
def listing(
    by: AsAdmin,
    limit: cursor.Limit = 50,
    cursor_: cursor.Cursor = None,
    account_: Annotated[
        str | None, Query(alias="account", pattern=ACCOUNT, description="user:<id> or pool:<id>")
    ] = None,
    only_open: Annotated[bool, Query(alias="open", description="only those that wait for a second admin")] = False,
) -> GrantPage:
    """What admins gave and took, and what waits for a second of them."""
    before = cursor.decode(cursor_)
    with postgres.transaction() as tx:
        found = grants.listing(tx, account_=account_, only_open=only_open, before=before, limit=limit + 1)
    page = found[:limit]
    return GrantPage(
        grants=[GrantView.of(one) for one in page],
        next_cursor=cursor.encode(page[-1].requested_at, page[-1].id) if len(found) > limit else None,
    )


@router.get("/{grant_id}", **PATH)
def one(grant_id: str, by: AsAdmin) -> GrantView:
    """A grant as it stands."""
    with postgres.transaction() as tx:
        return GrantView.of(grants.found(tx, grant_id.replace("\0", "")))


@router.post("/{grant_id}/approval", **PATH)
def approve(grant_id: str, by: AsAdmin) -> GrantView:
    """Agree, as the second admin, to what another has asked for."""
    with postgres.transaction() as tx:
        return GrantView.of(grants.approve(tx, by, grant_id.replace("\0", "")))


@router.post("/{grant_id}/refusal", openapi_extra=body.documented(Refusal), **PATH)
def refuse(grant_id: str, by: AsAdmin, raw: body.Raw) -> GrantView:
    """Say no to a grant that waits, one's own included."""
    asked = body.parse(Refusal, raw)
    with postgres.transaction() as tx:
        return GrantView.of(grants.refuse(tx, by, grant_id.replace("\0", ""), why=asked.reason))
