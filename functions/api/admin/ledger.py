"""The ledger as a whole: what it comes to, any account's statement, whether jobs and credits agree, the book itself."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from annotated_types import Len, Predicate
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from functions.adapters import adjustments, ledger, measures, postgres, reconciliation, snapshots, statements
from functions.api import body, csv, cursor
from functions.api.admin.grants import ACCOUNT, Who, Why
from functions.api.admin.identity import AsAdmin
from functions.api.credits import AS_CSV, HoldView, Statement, told
from functions.api.problem import documented
from functions.domain.adjustment import Outcome, checked
from functions.domain.request import CLOSED
from functions.domain.text import storable
from functions.domain.transfer import Reason

router = APIRouter(prefix="/v1/admin/ledger", tags=["admin"])
Account = Annotated[str, Path(pattern=ACCOUNT, description="user:<id> or pool:<id>")]


class LedgerView(BaseModel):
    """What the book comes to: credits moved by reason since it was opened, what users and teams hold, and what all
    accounts hold together, which is zero."""

    moved: dict[Reason, int]
    held: int
    imbalance: int


class AccountView(BaseModel):
    """An account's balance, and what is in jobs that are paid for and not done."""

    account: str
    balance: int
    held: int
    holds: list[HoldView]


class DiscrepancyView(BaseModel):
    """One thing that is wrong, by a name that never changes its meaning."""

    kind: str
    meaning: str
    job_id: str | None
    transfer_id: str | None
    grant_id: str | None
    at: datetime
    detail: str


class Reconciled(BaseModel):
    """How many jobs and transfers were compared, and what is wrong: all of it counted, the first thousand told."""

    ok: bool
    jobs: int
    transfers: int
    counts: dict[str, int]
    discrepancies: list[DiscrepancyView]


@dataclass(frozen=True, kw_only=True)
class Correction:
    """One line: credits above zero are given, below zero taken."""

    __pydantic_config__: ClassVar = CLOSED
    user_id: Who
    credits: int
    reason: Annotated[str, Len(0, 500), Predicate(storable)] = ""


@dataclass(frozen=True, kw_only=True)
class AdjustmentRequest:
    """Corrections of many balances. With `dry_run` nothing is done; the same list again does nothing twice."""

    __pydantic_config__: ClassVar = CLOSED
    reason: Why
    dry_run: bool = False
    lines: Annotated[tuple[Correction, ...], Len(1, 1000)]


class Corrected(BaseModel):
    """What became of one line, or would. approved: the credits are about to move; pending: a second admin has to
    approve its grant; known: it was taken before; short: the account holds less than is to be taken."""

    line: int
    account: str
    amount: int
    outcome: Outcome
    detail: str
    grant_id: str


class Adjusted(BaseModel):
    """One result for each line, in order."""

    dry_run: bool
    lines: list[Corrected]


@router.get("", responses=documented(403))
def book(by: AsAdmin) -> LedgerView:
    """What the book comes to, all as of one instant."""
    with postgres.transaction() as tx:
        measures.glimpse(tx)
        moved = measures.totals(tx).get("credits", {})
        held, imbalance = measures.held(tx), measures.imbalance(tx)
    return LedgerView(moved={reason: moved.get((reason,), 0) for reason in Reason}, held=held, imbalance=imbalance)


@router.get("/accounts/{account}", responses=documented(403))
def account(account: Account, by: AsAdmin) -> AccountView:
    """What any account holds."""
    with postgres.transaction() as tx:
        balance, holds = ledger.balance(tx, account), statements.holds(tx, account)
    return AccountView(
        account=account,
        balance=balance,
        held=sum(one.credits for one in holds),
        holds=[HoldView(**vars(one)) for one in holds],
    )


@router.get("/accounts/{account}/transactions", response_model=Statement, responses=documented(403) | AS_CSV)
def transactions(
    account: Account,
    by: AsAdmin,
    request: Request,
    limit: cursor.Limit = 50,
    cursor_: cursor.Cursor = None,
    wanted: csv.Format = None,
) -> Statement | Response:
    """Any account's statement, a page at a time, or whole as CSV."""
    return told(request, account, wanted, limit=limit, cursor_=cursor_)


@router.get("/reconciliation", responses=documented(403))
def reconcile(
    by: AsAdmin, days: Annotated[int, Query(ge=1, le=3660, description="only what moved since then")] = 7
) -> Reconciled:
    """Compare jobs with transfers, and transfers with jobs and grants."""
    found = reconciliation.report(since=datetime.now(UTC) - timedelta(days=days))
    return Reconciled(
        ok=not found.counts,
        **asdict(found.walked),
        counts=found.counts,
        discrepancies=[DiscrepancyView.model_validate(one, from_attributes=True) for one in found.told],
    )


NDJSON: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}


@router.get("/export", response_class=Response, responses=documented(403) | NDJSON)
def export(by: AsAdmin) -> Response:
    """The whole ledger at one instant as JSON lines. The last line closes it with counts, sum and SHA-256: an export
    without it is not whole."""
    name = f"ledger-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(snapshots.export(), headers=headers, media_type="application/x-ndjson")


@router.post(
    "/adjustments",
    openapi_extra=body.documented(AdjustmentRequest),
    responses=documented(400, 403, 413, 415),
)
def adjust(by: AsAdmin, raw: body.Raw) -> Adjusted:
    """Correct many balances. 200 whatever became of each line; the results say."""
    asked = body.parse(AdjustmentRequest, raw)
    rows = [{"user_id": one.user_id, "credits": str(one.credits), "reason": one.reason} for one in asked.lines]
    digest = hashlib.sha256(json.dumps([asked.reason, rows]).encode()).hexdigest()
    listed = checked(rows, reason=asked.reason, digest=digest)
    if asked.dry_run:
        with postgres.transaction() as tx:
            results = adjustments.rehearsal(tx, by, listed)
    else:
        results = list(adjustments.carry_out(by, listed))
    return Adjusted(
        dry_run=asked.dry_run,
        lines=[
            Corrected(
                line=one.line.number,
                account=one.line.account,
                amount=one.line.amount,
                outcome=one.outcome,
                detail=one.detail,
                grant_id=listed.id(one.line),
            )
            for one in results
        ],
    )
