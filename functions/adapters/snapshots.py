"""The whole ledger as it stands at one instant, as JSON lines: for an auditor, an archive, or another program.

First every account, then every transfer in the order they were made, then one line that says how many there were, what
all accounts hold together (zero), and the SHA-256 of all lines before it. Transfers carry all that their hash is made
of, so whoever has the file can compute every chain anew (`functions/domain/chain.py`) without the database.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from functions.adapters import measures, postgres
from functions.domain.chain import Sealed

PAGE = 2000

ACCOUNTS = text("""
SELECT id AS place, id, balance, head FROM generator_credit_account WHERE id > :after ORDER BY id LIMIT :limit
""")
COLUMNS = ", ".join(field.name for field in fields(Sealed))
TRANSFERS = text(f"""
SELECT number AS place, number, {COLUMNS} FROM generator_credit_transaction
WHERE number > :after ORDER BY number LIMIT :limit
""")  # noqa: S608


def export() -> Iterator[str]:
    """The lines, each with its newline. One read-only transaction: credits may move meanwhile, and are not in it."""
    digest = hashlib.sha256()
    accounts = transfers = held = 0

    def told(line: str) -> str:
        digest.update(line.encode())
        return line

    with postgres.transaction() as tx:
        tx.execute(measures.GLIMPSE)
        for row in _rows(tx, ACCOUNTS, ""):
            accounts, held = accounts + 1, held + (row.balance or 0)
            yield told(_line("account", row))
        for row in _rows(tx, TRANSFERS, 0):
            transfers, held = transfers + 1, held + (row.amount if row.debit_account == row.holder else -row.amount)
            yield told(_line("transfer", row))
    end = {"line": "end", "accounts": accounts, "transfers": transfers, "imbalance": held, "sha256": digest.hexdigest()}
    yield json.dumps(end) + "\n"


def _rows(tx: Connection, query: TextClause, after: str | int) -> Iterator[Row[Any]]:
    while page := tx.execute(query, {"after": after, "limit": PAGE}).all():
        yield from page
        after = page[-1].place


def _line(kind: str, row: Row[Any]) -> str:
    values = {name: value for name, value in row._mapping.items() if name != "place"}
    return json.dumps({"line": kind} | values, default=_plain, ensure_ascii=False) + "\n"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    assert isinstance(value, bytes | memoryview), value  # noqa: S101  hashes; there is nothing else in a row
    return bytes(value).hex()
