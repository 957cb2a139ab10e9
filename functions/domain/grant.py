"""Credits that admins give and take: each time with a reason, and by two of them where one does not suffice.

One admin asks. What takes credits away, or gives no more than the limit to somebody else, counts as approved. What
gives more, or gives to the asker, waits for a second admin, who must be neither the asker nor the one who gets it; what
nobody has approved in time never is. What is approved is carried out by `earn`, which can write no grant itself.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from functions.domain.errors import Rejected
from functions.domain.transfer import TREASURY, Reason, Transfer, account
from functions.domain.transfer import Kind as Occasion


class Kind(StrEnum):
    """What an admin asked for."""

    GRANT = "grant"  # new credits
    REVOCATION = "revocation"  # credits taken back
    ADJUSTMENT = "adjustment"  # a correction either way, as a line of a list


class Standing(StrEnum):
    """What has become of it."""

    PENDING = "pending"  # waits for a second admin
    APPROVED = "approved"  # nobody needs to say anything more: the credits are about to move
    DONE = "done"  # the credits have moved
    FAILED = "failed"  # the account held less than was to be taken; nothing moved
    REFUSED = "refused"  # an admin said no; nothing moved
    EXPIRED = "expired"  # no second admin said yes in time; nothing moved


#: The transfer's reason and occasion, for each kind of grant; the ledger's routine knows the same three.
AS_TRANSFER = {
    Kind.GRANT: (Reason.GRANT, Occasion.ADMIN),
    Kind.REVOCATION: (Reason.ADJUSTMENT, Occasion.REVOCATION),
    Kind.ADJUSTMENT: (Reason.ADJUSTMENT, Occasion.ADMIN),
}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How much one admin may give alone, in credits, and how long there is to approve what is more."""

    limit: int
    approval: timedelta


@dataclass(frozen=True, kw_only=True)
class Grant:
    """`amount` credits for an account; below zero, from it.

    instruction, approval: which signed word of the asker, and of the second admin, this carries out.
    moved_at: when the credits moved; failure: why they could not.
    """

    id: str
    account: str
    amount: int
    kind: Kind
    reason: str
    requested_by: str
    instruction: str
    requested_at: datetime
    needs_approval: bool
    approved_by: str | None = None
    approval: str | None = None
    approved_at: datetime | None = None
    withdrawn_by: str | None = None
    withdrawn_at: datetime | None = None
    refusal: str | None = None
    moved_at: datetime | None = None
    failure: str | None = None

    @property
    def transfer_id(self) -> str:
        return f"{self.account}:{AS_TRANSFER[self.kind][0]}:{self.id}"

    def standing(self, policy: Policy, now: datetime) -> Standing:
        if self.moved_at:
            return Standing.DONE
        if self.failure:
            return Standing.FAILED
        if self.withdrawn_at:
            return Standing.REFUSED
        if self.approved_at or not self.needs_approval:
            return Standing.APPROVED
        return Standing.EXPIRED if now > self.requested_at + policy.approval else Standing.PENDING

    def approved(self, by: str, *, approval: str, policy: Policy, now: datetime) -> Self:
        """With a second admin's yes; Rejected when it is too late, or the admin is not one who may say so."""
        self._must_be_open(policy, now)
        if by == self.requested_by:
            raise Rejected("second_admin_needed", "you asked for this grant yourself: another admin must approve it")
        if self.account == account(by):
            raise Rejected("second_admin_needed", "this grant is for you: an admin who gets nothing must approve it")
        return replace(self, approved_by=by, approval=approval, approved_at=now)

    def refused(self, by: str, *, why: str, policy: Policy, now: datetime) -> Self:
        """With an admin's no, the asker's own included; Rejected when it is decided already."""
        self._must_be_open(policy, now)
        return replace(self, withdrawn_by=by, withdrawn_at=now, refusal=why)

    def _must_be_open(self, policy: Policy, now: datetime) -> None:
        standing = self.standing(policy, now)
        if standing is Standing.EXPIRED:
            raise Rejected("grant_expired", f"grant {self.id} has waited for too long: ask for it again")
        if standing is not Standing.PENDING:
            raise Rejected("already_decided", f"grant {self.id} is {standing} already")

    def transfer(self) -> Transfer:
        """The movement of credits that this grant is for."""
        reason, occasion = AS_TRANSFER[self.kind]
        source, target = (TREASURY, self.account) if self.amount > 0 else (self.account, TREASURY)
        by = f"user:{self.requested_by}"
        return Transfer(
            id=self.transfer_id,
            debit_account=source,
            credit_account=target,
            amount=abs(self.amount),
            reason=reason,
            kind=occasion,
            authorised_by=f"{by} and user:{self.approved_by}" if self.approved_by else by,
            instruction=self.id,
        )
