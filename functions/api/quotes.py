"""Quotes: what a request would cost and how long it would take, without asking for it."""

from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.adapters import admission, controls, earnings, gate, ledger, postgres, quotes, team_pools
from functions.api import body
from functions.api.identity import Asker
from functions.api.problem import documented
from functions.api.waits import LessView, RangeView, WaitView
from functions.config import config
from functions.domain import transfer
from functions.domain.errors import Rejected
from functions.domain.request import JobRequest, exact_seed

router = APIRouter(prefix="/v1/quotes", tags=["quotes"])


class Terms(BaseModel):
    """What the price is the sum of, in credits."""

    render: int
    loras: int
    boost: int


class RefusalView(BaseModel):
    """Why the request would be refused if it came now, and when that may have passed."""

    code: str
    detail: str
    retry_after_s: int | None


class QuoteView(BaseModel):
    """A price in whole credits by the published formula of this version, and whether the asker could pay it now; how
    long the job would wait for a GPU, and how long a GPU would have it.

    The same request with this `quote_id` costs this until `expires_at`, whatever becomes of the prices.
    """

    quote_id: str
    expires_at: datetime
    credits: int
    terms: Terms
    formula_version: str
    balance: int
    affordable: bool
    workflow_id: str
    workflow_version: str
    pool: str
    wait: WaitView
    render: RangeView
    degraded: dict[str, LessView] = Field(
        description="what a saturated pool would give less of, to a request that may be degraded; the price is of that"
    )
    refused_now: RefusalView | None


@router.post("", openapi_extra=body.documented(JobRequest), responses=documented(400, 413, 415, 422))
def quote(actor: Asker, raw: body.Raw) -> QuoteView:
    """Check a job request and price it. The price stands for a while; nothing is charged."""
    asked = body.parse(JobRequest, raw)
    seed = 0 if asked.seed is None else exact_seed(asked.seed)
    refused = None
    with postgres.transaction() as tx:
        admitted = admission.admit(tx, asked, actor=actor, seed=seed)
        try:
            controls.check_user(tx, actor.user_id)
            admitted = gate.passed(tx, admitted, actor)
        except Rejected as no:
            refused = RefusalView(code=no.code, detail=no.detail, retry_after_s=no.retry_after_s)
        payer = team_pools.payer(tx, actor.user_id, asked.pay_from)
        if payer is None:
            earnings.touch(tx, actor.user_id)
        balance = ledger.balance(tx, payer or transfer.account(actor.user_id))
        kept = quotes.keep(
            tx,
            asked,
            admitted.quote,
            user_id=actor.user_id,
            now=datetime.now(UTC),
            valid_s=config().quote_valid_s,
        )
    price = admitted.quote
    return QuoteView(
        quote_id=kept.id,
        expires_at=kept.expires_at,
        credits=price.credits,
        terms=Terms(render=price.render, loras=price.loras, boost=price.boost),
        formula_version=price.version,
        balance=balance,
        affordable=balance >= price.credits,
        workflow_id=admitted.workflow.id,
        workflow_version=admitted.workflow.version,
        pool=admitted.pool,
        wait=WaitView.of(admitted.outlook),
        render=RangeView.of(admitted.render),
        degraded={name: LessView(**less) for name, less in admitted.degraded.items()},
        refused_now=refused,
    )
