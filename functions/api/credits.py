"""Credits: what an account holds, what is held for jobs under way, and its statement."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from functions.adapters import earnings, jobs, ledger, postgres, statements, team_pools
from functions.api import csv, cursor
from functions.api.identity import ADMIN, Asker, may_see
from functions.api.problem import documented
from functions.domain import transfer
from functions.domain.errors import Rejected
from functions.domain.job import State
from functions.domain.statement import Line, as_csv
from functions.domain.transfer import Reason

router = APIRouter(prefix="/v1/credits", tags=["credits"])


class HoldView(BaseModel):
    """A job that is paid for and not done; `spender` asked for it."""

    job_id: str
    credits: int
    state: State
    spender: str
    submitted_at: datetime


class CreditsView(BaseModel):
    """Who asks, what the account holds, and what is in jobs that are paid for and not done."""

    user_id: str
    role: str
    balance: int
    held: int
    holds: list[HoldView]


class TransactionView(BaseModel):
    """One line of a statement: `change` is what the transfer did to this account, `balance` what it left, `about` what
    it was for. `spender` is who spent it, where the account is a team's."""

    id: str
    reason: Reason
    kind: str | None
    change: int
    balance: int
    about: str
    job_id: str | None
    undoes: str | None
    quote_id: str | None
    spender: str | None
    authorised_by: str
    at: datetime

    @classmethod
    def of(cls, line: Line) -> "TransactionView":
        return cls.model_validate(line, from_attributes=True)


class Statement(BaseModel):
    """A page of the statement, newest first; without `next_cursor` it is the last."""

    transactions: list[TransactionView]
    next_cursor: str | None = None


class TeamView(BaseModel):
    """A team whose credits the asker may spend: what it holds, and what the asker has spent of it and may, by day, week
    and month (UTC)."""

    id: str
    name: str
    account: str
    balance: int
    spent: dict[str, int]
    caps: dict[str, int]


class TeamList(BaseModel):
    """The asker's teams."""

    pools: list[TeamView]


@router.get("", responses=documented())
def credits(actor: Asker) -> CreditsView:
    """The asker's balance, in whole credits."""
    account = transfer.account(actor.user_id)
    with postgres.transaction() as tx:
        earnings.touch(tx, actor.user_id)
        balance, holds = ledger.balance(tx, account), statements.holds(tx, account)
    return CreditsView(
        user_id=actor.user_id,
        role=actor.role,
        balance=balance,
        held=sum(one.credits for one in holds),
        holds=[HoldView(**vars(one)) for one in holds],
    )


#: A statement may be asked for as CSV as well.
AS_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
OfJob = Annotated[str | None, Query(description="only what this job of the asker's moved", max_length=64)]


@router.get("/transactions", response_model=Statement, responses=documented(404, 422) | AS_CSV)
def transactions(
    request: Request,
    actor: Asker,
    limit: cursor.Limit = 50,
    cursor_: cursor.Cursor = None,
    job_id: OfJob = None,
    wanted: csv.Format = None,
) -> Statement | Response:
    """Every transfer that touched the asker's account, or that one of the asker's jobs made. As CSV it is all of them
    at once."""
    if job_id is not None:
        with postgres.transaction() as tx:
            job = jobs.get(tx, job_id) if "\0" not in job_id else None
            if job is None or not may_see(actor, job):
                raise Rejected("unknown_job", f"there is no job {job_id[:64]!r} of yours", field="job_id")
            lines = statements.of_job(tx, job_id)
        if csv.wanted(request, wanted):
            return csv.answer(as_csv(lines), f"job-{job_id}")
        return Statement(transactions=[TransactionView.of(line) for line in lines])
    return told(request, transfer.account(actor.user_id), wanted, limit=limit, cursor_=cursor_)


@router.get("/pools", responses=documented())
def pools(actor: Asker) -> TeamList:
    """The teams whose credits the asker may spend; a job request names one as `pay_from`."""
    found = []
    with postgres.transaction() as tx:
        for team in team_pools.of_user(tx, actor.user_id):
            [own] = team_pools.members(tx, team.id, user_id=actor.user_id)
            found.append(TeamView(**vars(team), account=team.account, spent=own.spent, caps=own.caps))
    return TeamList(pools=found)


@router.get("/pools/{pool_id}/transactions", response_model=Statement, responses=documented(404, 422) | AS_CSV)
def pool_transactions(
    pool_id: str,
    request: Request,
    actor: Asker,
    limit: cursor.Limit = 50,
    cursor_: cursor.Cursor = None,
    wanted: csv.Format = None,
    member: Annotated[str | None, Query(description="only what this member spent", max_length=128)] = None,
) -> Statement | Response:
    """What the asker has spent of a team's credits; for admins, what everybody has."""
    account = transfer.pool(pool_id)
    if actor.role != ADMIN:
        with postgres.transaction() as tx:
            if "\0" in pool_id or not team_pools.member(tx, account, actor.user_id):
                raise Rejected("unknown_team_pool", f"you are in no team {pool_id[:64]!r}", field="pool_id")
        member = actor.user_id
    return told(request, account, wanted, member=member, limit=limit, cursor_=cursor_)


def told(
    request: Request,
    account: str,
    wanted: csv.Format,
    *,
    member: str | None = None,
    limit: int,
    cursor_: str | None,
) -> Statement | Response:
    """An account's statement, in the form that was asked for."""
    if csv.wanted(request, wanted):
        return csv.answer(as_csv(statements.every(account, member=member)), account)
    before = cursor.decode(cursor_)
    with postgres.transaction() as tx:
        lines = statements.page(tx, account, member=member, before=before, limit=limit + 1)
    page = lines[:limit]
    return Statement(
        transactions=[TransactionView.of(line) for line in page],
        next_cursor=cursor.encode(page[-1].at, page[-1].id) if len(lines) > limit else None,
    )
