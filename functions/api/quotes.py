"""Quotes: what a request would cost, without asking for it."""

from fastapi import APIRouter
from pydantic import BaseModel

from functions.adapters import admission, ledger, postgres
from functions.api import body
from functions.api.identity import Asker
from functions.api.problem import documented
from functions.domain import transfer
from functions.domain.request import JobRequest, exact_seed

router = APIRouter(prefix="/v1/quotes", tags=["quotes"])


class Terms(BaseModel):
    """What the price is the sum of, in credits."""

    render: int
    loras: int
    boost: int


class QuoteView(BaseModel):
    """A price in whole credits by the published formula of this version, and whether the asker could pay it now."""

    credits: int
    terms: Terms
    formula_version: str
    balance: int
    affordable: bool
    workflow_id: str
    workflow_version: str
    pool: str


@router.post("", openapi_extra=body.documented(JobRequest), responses=documented(400, 413, 415, 422))
def quote(actor: Asker, raw: body.Raw) -> QuoteView:
    """Check a job request and price it; nothing is stored, nothing is charged."""
    asked = body.parse(JobRequest, raw)
    seed = 0 if asked.seed is None else exact_seed(asked.seed)
    with postgres.transaction() as tx:
        admitted = admission.admit(tx, asked, seed=seed, user_id=actor.user_id)
        balance = ledger.balance(tx, transfer.account(actor.user_id))
    price = admitted.quote
    return QuoteView(
        credits=price.credits,
        terms=Terms(render=price.render, loras=price.loras, boost=price.boost),
        formula_version=price.version,
        balance=balance,
        affordable=balance >= price.credits,
        workflow_id=admitted.workflow.id,
        workflow_version=admitted.workflow.version,
        pool=admitted.pool,
    )
