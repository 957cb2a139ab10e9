"""The ledger's hash chains: each row of an account is sealed together with the hash of the row before it.

The same is computed by `generator_ledger_seal` in migrations/0010, when a row is made; whoever has the rows can compute
it anew, from what is said here, without trusting the database.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """What is wrong with a row, or with the account that ends in it."""

    HASH = "hash"  # the row does not say what was sealed: something in it was changed
    PREVIOUS = "previous"  # it names another row before it than the one it was sealed with
    MISSING = "missing"  # it is whole, and does not follow the row before it: one between is gone, or one was put in
    BALANCE = "balance"  # the balance is not the one before it with the amount
    AMOUNT = "amount"  # not a whole number above zero
    REFUNDS = "refunds"  # with this refund, more has come back than was paid
    END = "end"  # the account's head or balance is not this last row's: rows after it are gone, or it was changed


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A row of the ledger with all that its hash is made of. format: 1 for rows from before there were kinds."""

    format: int
    id: str
    debit_account: str
    credit_account: str
    amount: int
    reason: str
    kind: str | None
    job_id: str | None
    undoes: str | None
    balance: int
    quote_id: str | None
    spender: str | None
    token_id: str | None
    authorised_by: str
    instruction: str | None
    posted_by: str
    at: datetime
    holder: str
    previous: bytes | None
    hash: bytes

    def seal(self) -> bytes:
        """The hash that this row should have: SHA-256 of the hash before it and of what it says, as JSON.

        format 2: an array in the order of the fields above, from `format` to `at`, the moment as text in UTC to the
        microsecond. format 1: the fields it has, the moment last, in seconds since 1970 with six decimals.
        """
        at = self.at.astimezone(UTC)
        if self.format == 1:
            said = [self.id, self.debit_account, self.credit_account, self.amount, self.reason, self.job_id]
            said += [self.undoes, self.balance, self.authorised_by, self.posted_by]
            seconds = f"{int(at.replace(microsecond=0).timestamp())}.{at.microsecond:06d}"
            body = f"{_json(said)[:-1]}, {seconds}]"
        else:
            body = _json([getattr(self, name) for name in SAID] + [at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")])
        return hashlib.sha256((self.previous or b"") + body.encode()).digest()

    @property
    def change(self) -> int:
        """What the transfer did to the account that holds credits."""
        return self.amount if self.credit_account == self.holder else -self.amount

    def faults(self, *, hash_before: bytes | None, balance_before: int) -> tuple[Fault, ...]:
        """What is wrong with this row, where it should follow one with this hash that left this balance."""
        whole, follows = self.seal() == self.hash, self.previous == hash_before
        found = {
            Fault.HASH: not whole and follows,
            Fault.PREVIOUS: not whole and not follows,
            Fault.MISSING: whole and not follows,
            Fault.BALANCE: self.balance != balance_before + self.change or self.balance < 0,
            Fault.AMOUNT: self.amount <= 0,
        }
        return tuple(fault for fault, is_so in found.items() if is_so)


SAID = (
    *("format", "id", "debit_account", "credit_account", "amount", "reason", "kind", "job_id", "undoes", "balance"),
    *("quote_id", "spender", "token_id", "authorised_by", "instruction", "posted_by"),
)


def _json(said: list[Any]) -> str:
    """As Postgres writes a jsonb array."""
    return json.dumps(said, ensure_ascii=False)
