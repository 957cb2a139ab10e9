"""Credits: what an account holds, and its statement."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from functions.adapters import ledger, postgres
from functions.api import cursor
from functions.api.identity import Asker
from functions.api.problem import documented
from functions.domain import transfer
from functions.domain.transfer import Reason

router = APIRouter(prefix="/v1/credits", tags=["credits"])


class CreditsView(BaseModel):
    """Who asks, and what the account holds."""

    user_id: str
    role: str
    balance: int


class TransactionView(BaseModel):
    """One line of the statement: `change` is what the transfer did to this account, `balance` what it left."""

    id: str
    reason: Reason
    change: int
    balance: int
    job_id: str | None
    undoes: str | None
    authorised_by: str
    at: datetime


class Statement(BaseModel):
    """A page of the statement, newest first; without `next_cursor` it is the last."""

    transactions: list[TransactionView]
    next_cursor: str | None = None


@router.get("", responses=documented())
def credits(actor: Asker) -> CreditsView:
    """The asker's balance, in whole credits."""
    with postgres.transaction() as tx:
        balance = ledger.balance(tx, transfer.account(actor.user_id))
    return CreditsView(user_id=actor.user_id, role=actor.role, balance=balance)


@router.get("/transactions", responses=documented(422))
def transactions(actor: Asker, limit: cursor.Limit = 50, cursor_: cursor.Cursor = None) -> Statement:
    """Every transfer that touched the asker's account."""
    before = cursor.decode(cursor_)
    with postgres.transaction() as tx:
        entries = ledger.statement(tx, transfer.account(actor.user_id), before=before, limit=limit + 1)
    page = entries[:limit]
    return Statement(
        transactions=[TransactionView(**vars(entry)) for entry in page],
        next_cursor=cursor.encode(page[-1].at, page[-1].id) if len(entries) > limit else None,
    )
