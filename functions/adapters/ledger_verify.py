"""The ledger, walked from its first row to its last: every chain and balance computed anew, and the whole sum.

Nothing that the database keeps is believed but the rows themselves: hashes are computed here, balances and sums are
added up. Reads a snapshot, page by page, so it may run while credits move, and needs the memory of one page.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from functions.domain.chain import Fault, Sealed

PAGE = 2_000
SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The first wrong row of an account and what is wrong with it; `id` and `at` are None where it has no row."""

    account: str
    id: str | None
    at: datetime | None
    faults: tuple[Fault, ...]
    detail: str


@dataclass
class Walk:
    """A walk through the ledger, with what it has counted so far; `imbalance` is right once it has ended.

    accounts, transfers: how many were looked at. imbalance: what all accounts hold together, which must be zero.
    """

    accounts: int = 0
    transfers: int = 0
    imbalance: int = 0

    def findings(self, tx: Connection) -> Iterator[Finding]:
        """Every broken account's first wrong row. `tx` becomes a snapshot, unless it has begun: then its own work is
        looked at too."""
        if not tx.in_transaction():
            tx.execute(SNAPSHOT)
        yield from self._chains(tx)
        yield from _empty(tx)
        yield from _refunds(tx)
        self.imbalance += int(tx.execute(BALANCES).scalar_one())

    def _chains(self, tx: Connection) -> Iterator[Finding]:
        last: Any = None
        broken = False
        for row in _rows(tx):
            self.transfers += 1
            if last is None or row.holder != last.holder:
                if last is not None and not broken:
                    yield from _end(last)
                self.accounts += 1
                last, broken = None, False
            said = Sealed(**{name: getattr(row, name) for name in COLUMNS})
            self.imbalance -= said.change
            if not broken:
                before = (last.hash, last.balance) if last else (None, 0)
                faults = said.faults(hash_before=before[0], balance_before=before[1])
                broken = bool(faults)
                if broken:
                    yield _finding(said, faults, after=last.id if last else None, balance_before=before[1])
            last = row
        if last is not None and not broken:
            yield from _end(last)


COLUMNS = tuple(field.name for field in fields(Sealed))
ROWS = text(f"""
SELECT {", ".join(f"row.{name}" for name in COLUMNS)}, account.balance AS kept, account.head
FROM generator_credit_transaction AS row LEFT JOIN generator_credit_account AS account ON account.id = row.holder
WHERE (row.holder, row.at, row.id) > (:holder, :at, :id)
ORDER BY row.holder, row.at, row.id LIMIT :limit
""")  # noqa: S608


def _rows(tx: Connection) -> Iterator[Any]:
    """Every row with the account it belongs to, an account after the other, each from its first row on."""
    after: dict[str, Any] = {"holder": "", "at": datetime.min.replace(tzinfo=UTC), "id": ""}
    while True:
        page = tx.execute(ROWS, after | {"limit": PAGE}).all()
        yield from page
        if len(page) < PAGE:
            return
        after = {name: getattr(page[-1], name) for name in after}


def _finding(row: Sealed, faults: tuple[Fault, ...], *, after: str | None, balance_before: int) -> Finding:
    said = {
        Fault.HASH: "it does not say what was sealed",
        Fault.PREVIOUS: "it was changed, and tied to another row than the one before it",
        Fault.MISSING: f"it does not follow {after or 'from nothing'}: a row between is gone, or one was put in",
        Fault.BALANCE: f"it leaves {row.balance}, which is not {balance_before} {row.change:+d}",
        Fault.AMOUNT: f"it moves {row.amount}",
    }
    detail = "; ".join(said[fault] for fault in faults)
    return Finding(account=row.holder, id=row.id, at=row.at, faults=faults, detail=detail)


def _end(row: Any) -> Iterator[Finding]:
    """What is wrong with an account that ends in this row."""
    wrong = []
    if row.head != row.hash:
        wrong.append("the account's head is another row's: rows after this one are gone, or the account was changed")
    if row.kept != row.balance:
        wrong.append(f"the account says it holds {row.kept}, its last row leaves {row.balance}")
    if wrong:
        yield Finding(account=row.holder, id=row.id, at=row.at, faults=(Fault.END,), detail="; ".join(wrong))


EMPTY = text("""
SELECT id, balance FROM generator_credit_account AS account
WHERE (balance <> 0 OR head IS NOT NULL) AND id > :after
  AND NOT EXISTS (SELECT FROM generator_credit_transaction AS row WHERE row.holder = account.id)
ORDER BY id LIMIT :limit
""")


def _empty(tx: Connection) -> Iterator[Finding]:
    """Accounts that hold something and have no row to show for it."""
    after = ""
    while page := tx.execute(EMPTY, {"after": after, "limit": PAGE}).all():
        for row in page:
            detail = f"it holds {row.balance}, and has no row: all of them are gone, or the account was changed"
            yield Finding(account=row.id, id=None, at=None, faults=(Fault.END,), detail=detail)
        after = page[-1].id


# The sums are added up from the rows: what came back for each price, undos taken off, as it stood after each refund.
REFUNDS = text("""
SELECT DISTINCT ON (holder) holder, id, at, back, paid FROM (
    SELECT part.holder, part.id, part.at, price.amount AS paid,
           sum(CASE part.reason WHEN 'refund' THEN part.amount ELSE -part.amount END)
               OVER (PARTITION BY price.id ORDER BY part.at, part.id) AS back
    FROM generator_credit_transaction AS part
    LEFT JOIN generator_credit_transaction AS taken_back ON taken_back.id = part.undoes AND part.reason = 'debit'
    JOIN generator_credit_transaction AS price ON price.id = coalesce(taken_back.undoes, part.undoes)
    WHERE part.undoes IS NOT NULL
) AS so_far
WHERE back > paid OR back < 0
ORDER BY holder, at, id
""")


def _refunds(tx: Connection) -> Iterator[Finding]:
    """The first refund of each account with which more has come back than was paid."""
    for row in tx.execute(REFUNDS):
        detail = f"with it {row.back} credits have come back of {row.paid} that were paid"
        yield Finding(account=row.holder, id=row.id, at=row.at, faults=(Fault.REFUNDS,), detail=detail)


BALANCES = text("SELECT coalesce(sum(balance), 0) FROM generator_credit_account WHERE balance IS NOT NULL")
