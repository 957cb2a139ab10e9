"""An export is the whole ledger of one instant, and enough to check every chain without the database."""

import json
import uuid
from collections import defaultdict
from dataclasses import fields
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

import pytest
from book import all_at_once, debit, granted, kept, post
from live import Stack

from functions.adapters import snapshots
from functions.domain.chain import Sealed


def sealed(line: dict[str, Any]) -> Sealed:
    """A transfer's line as the row it was."""
    said = {field.name: line[field.name] for field in fields(Sealed)}
    hashes = {name: None if said[name] is None else bytes.fromhex(said[name]) for name in ("previous", "hash")}
    return Sealed(**said | hashes | {"at": datetime.fromisoformat(line["at"])})


def test_every_chain_can_be_checked_from_the_file_alone(stack: Stack) -> None:
    user = f"ann-{uuid.uuid4().hex[:8]}"
    granted(user, 50)
    all_at_once(*(partial(post, debit(kept(user, n))) for n in range(1, 6)))
    lines = [json.loads(line) for line in snapshots.export()]
    accounts = {line["id"]: line for line in lines if line["line"] == "account"}
    last: dict[str, Sealed] = {}
    chains: dict[str, int] = defaultdict(int)
    for row in sorted((sealed(line) for line in lines if line["line"] == "transfer"), key=lambda row: row.at):
        before = last.get(row.holder)
        assert row.faults(hash_before=before and before.hash, balance_before=before.balance if before else 0) == ()
        last[row.holder] = row
        chains[row.holder] += 1
    assert chains[f"user:{user}"] == 6
    for name, row in last.items():
        assert (accounts[name]["balance"], accounts[name]["head"]) == (row.balance, row.hash.hex())


def test_what_moves_while_it_is_written_is_not_in_it_and_its_sum_is_zero(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "PAGE", 2)
    user = f"ann-{uuid.uuid4().hex[:8]}"
    granted(user, 5)
    export = snapshots.export()
    begun = list(islice(export, 1))
    granted(user, 7)
    lines = [json.loads(line) for line in (*begun, *export)]
    assert [line["amount"] for line in lines if line.get("holder") == f"user:{user}"] == [5]
    assert lines[-1]["imbalance"] == 0
