"""Credits move in transfers: whole credits from one account to another, only ever added, each with its reason."""

from dataclasses import dataclass
from enum import StrEnum

from functions.domain.job import Job

TREASURY = "treasury"  # where grants come from; may go below zero: it is the credits in circulation
REVENUE = "revenue"  # where prices go
REFUND_RESERVE = "refund-reserve"  # where refunds come from; below zero by what revenue owes it
MOST_DISCARD_PERCENT = 50  # of a price may come back for pictures that were turned down


class Reason(StrEnum):
    """Why credits moved."""

    GRANT = "grant"
    DEBIT = "debit"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"


class Kind(StrEnum):
    """On what occasion, within the reason; the ledger lets each role post some of them (`generator_ledger_right`)."""

    PRICE = "price"  # debit: of a job
    UNDO = "undo"  # debit: a discard was taken back, and with it what it had refunded
    FAILED = "failed"  # refund: no try is left
    CANCELLED = "cancelled"  # refund: called off
    MODERATION = "moderation"  # refund: taken down by our mistake
    MISSING = "missing"  # refund: of pictures that a batch did not produce
    DISCARD = "discard"  # refund: a part, for a picture that was turned down
    REFRESH = "refresh"  # grant: comes back by itself
    ACHIEVEMENT = "achievement"  # grant: earned
    ADMIN = "admin"  # grant or adjustment: an admin's
    REVOCATION = "revocation"  # adjustment: an admin took a grant back


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """`amount` credits leave debit_account and reach credit_account; where the ledger decides how many (`ledger.post`),
    it is the most.

    id: computed from what the transfer is for, so that posting it twice posts it once.
    instruction: which signed instruction, event or grant this carries out; authorised_by: whose.
    undoes: the debit that a refund gives back, or the refund that an undo takes back.
    spender: the member of a team who spends its credits. token_id: the API token that was used.
    """

    id: str
    debit_account: str
    credit_account: str
    amount: int
    reason: Reason
    kind: str
    authorised_by: str
    instruction: str
    job_id: str | None = None
    undoes: str | None = None
    quote_id: str | None = None
    spender: str | None = None
    token_id: str | None = None


def account(user_id: str) -> str:
    """The account that holds a user's credits."""
    return f"user:{user_id}"


def pool(team_id: str) -> str:
    """The account that holds a team's credits."""
    return f"pool:{team_id}"


def payer(job: Job) -> str:
    """The account that pays for a job: its user's, or a team's."""
    return job.payer or account(job.user_id)


def spenders(account: str, *, member: str | None = None, token_id: str | None = None) -> list[str]:
    """Everyone whose spending a price counts as: the account, the member of its team, the API token. A cap may stand
    against each."""
    named = (account, member and f"{account}/member:{member}", token_id and f"token:{token_id}")
    return [one for one in named if one]


def debit(job: Job, *, authorised_by: str, instruction: str) -> Transfer:
    """The job's price leaves the account that pays for it."""
    return Transfer(
        id=f"{job.id}:debit",
        debit_account=payer(job),
        credit_account=REVENUE,
        amount=job.credits,
        reason=Reason.DEBIT,
        kind=Kind.PRICE,
        authorised_by=authorised_by,
        instruction=instruction,
        job_id=job.id,
        quote_id=job.quote_id,
        spender=job.user_id if job.payer else None,
        token_id=job.token_id,
    )


def refund(job: Job, kind: Kind, *, authorised_by: str, instruction: str) -> Transfer:
    """All that has not come back yet of the job's price, boost included, naming the debit it undoes."""
    return _back(job, "", job.credits, kind, authorised_by, instruction)


def missing(job: Job, produced: int, *, authorised_by: str, instruction: str) -> Transfer | None:
    """What comes back when a batch of `job.images` left fewer pictures: pro rata, rounded up; None when it is whole."""
    absent = job.images - produced
    if absent <= 0:
        return None
    share = -(-job.credits * absent // job.images)
    return _back(job, ":missing", share, Kind.MISSING, authorised_by, instruction)


@dataclass(frozen=True, kw_only=True)
class DiscardPolicy:
    """What a picture that is turned down gives back: `percent` of its part of the price, 0 to 50, and nothing when it
    is turned down for one of the reasons in `excluded`."""

    percent: int = 0
    excluded: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= MOST_DISCARD_PERCENT:
            raise ValueError(f"a discard gives back 0 to {MOST_DISCARD_PERCENT} percent, not {self.percent}")

    def share(self, job: Job, index: int, *, reason: str) -> int:
        """The credits that this picture (0 .. job.images - 1) gives back. All shares of a job add up to `percent` of
        its price, rounded down: single credits that do not divide go to one picture or another, none to two."""
        if reason in self.excluded or not 0 <= index < job.images:
            return 0
        most = job.credits * self.percent // 100
        return most * (index + 1) // job.images - most * index // job.images


def discarded(
    job: Job,
    index: int,
    policy: DiscardPolicy,
    *,
    reason: str,
    authorised_by: str,
    instruction: str,
    times: int = 1,
) -> Transfer | None:
    """What turning a picture down gives back; None when that is nothing.

    times: 1 when this picture is turned down for the first time; after an undo it may be again.
    """
    share = policy.share(job, index, reason=reason)
    return _back(job, _part(index, times), share, Kind.DISCARD, authorised_by, instruction) if share else None


def restored(job: Job, index: int, *, authorised_by: str, instruction: str, times: int = 1) -> Transfer:
    """A picture was taken back from the discarded, and with it what turning it down had given back, if anything. The
    ledger knows how much that was; an account that holds less cannot have the picture back."""
    refund_id = f"{job.id}:refund{_part(index, times)}"
    return Transfer(
        id=f"{refund_id}:undo",
        debit_account=payer(job),
        credit_account=REFUND_RESERVE,
        amount=job.credits,
        reason=Reason.DEBIT,
        kind=Kind.UNDO,
        authorised_by=authorised_by,
        instruction=instruction,
        job_id=job.id,
        undoes=refund_id,
    )


def _part(index: int, times: int) -> str:
    return f":{index}" if times == 1 else f":{index}:{times}"


def grant(user_id: str, amount: int, *, key: str, authorised_by: str) -> Transfer:
    """New credits for a user that an admin gives; `key` is the grant that was written down and approved."""
    return _grant(user_id, amount, Kind.ADMIN, key, authorised_by, instruction=key)


def achievement(user_id: str, amount: int, *, name: str, authorised_by: str, instruction: str) -> Transfer:
    """New credits for what a user has achieved; `name` is the achievement, which pays once."""
    return _grant(user_id, amount, Kind.ACHIEVEMENT, f"achievement:{name}", authorised_by, instruction)


def _grant(user_id: str, amount: int, kind: Kind, key: str, authorised_by: str, instruction: str) -> Transfer:
    return Transfer(
        id=f"{account(user_id)}:grant:{key}",
        debit_account=TREASURY,
        credit_account=account(user_id),
        amount=amount,
        reason=Reason.GRANT,
        kind=kind,
        authorised_by=authorised_by,
        instruction=instruction,
    )


def _back(job: Job, part: str, amount: int, kind: Kind, authorised_by: str, instruction: str) -> Transfer:
    return Transfer(
        id=f"{job.id}:refund{part}",
        debit_account=REFUND_RESERVE,
        credit_account=payer(job),
        amount=amount,
        reason=Reason.REFUND,
        kind=kind,
        authorised_by=authorised_by,
        instruction=instruction,
        job_id=job.id,
        undoes=f"{job.id}:debit",
    )
