"""Whoever writes past the ledger's routine is found: a walk names each account's first wrong row, and what is wrong.

Each harm is done as a superuser, with the triggers off, in a transaction that is rolled back.
"""

import uuid
from collections.abc import Iterator
from dataclasses import fields

import pytest
from book import debit, granted, kept, paid, post, refund, statement, walk
from live import Stack
from sqlalchemy import Connection, NullPool, create_engine, text

from functions.adapters import ledger_verify, postgres
from functions.adapters.ledger_verify import Finding, Walk
from functions.domain import transfer
from functions.domain.chain import Fault, Sealed

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def ann() -> str:
    """A user with five lines: a grant, two debits, a refund of the first and another grant."""
    user = f"ann-{uuid.uuid4().hex[:8]}"
    granted(user, 20)
    first = paid(user, 4)
    paid(user, 3)
    post(refund(first))
    granted(user, 1)
    return user


@pytest.fixture
def intruder(stack: Stack) -> Iterator[Connection]:
    """A superuser for whom no trigger and no foreign key holds."""
    superuser = create_engine(str(stack.house.admin_database_url), poolclass=NullPool)
    with superuser.connect() as tx:
        tx.execute(text("SET LOCAL session_replication_role = replica"))
        yield tx
        tx.rollback()


def found(tx: Connection, user: str) -> list[Finding]:
    """What a walk that sees the intruder's work finds about this user."""
    return [one for one in Walk().findings(tx) if one.account == f"user:{user}"]


def lines(user: str) -> list[str]:
    """The ids of the user's rows, oldest first."""
    return [line.id for line in reversed(statement(user))]


EDITS = {
    "amount = amount + 5": {Fault.HASH, Fault.BALANCE},
    "amount = -amount": {Fault.HASH, Fault.BALANCE, Fault.AMOUNT},
    "balance = balance + 5": {Fault.HASH, Fault.BALANCE},
    "reason = 'grant'": {Fault.HASH},
    "kind = 'undo'": {Fault.HASH},
    "job_id = NULL": {Fault.HASH},
    "quote_id = 'another'": {Fault.HASH},
    "spender = 'eve'": {Fault.HASH},
    "token_id = 'stolen'": {Fault.HASH},
    "authorised_by = 'user:eve'": {Fault.HASH},
    "instruction = 'another'": {Fault.HASH},
    "posted_by = 'eve'": {Fault.HASH},
    "format = 1": {Fault.HASH},
    "at = at + interval '1 microsecond'": {Fault.HASH},
    "id = id || 'x'": {Fault.HASH},
    "hash = sha256(hash)": {Fault.HASH},
    "previous = sha256(previous)": {Fault.PREVIOUS},
}


def test_a_book_that_nobody_has_written_past_is_right(ann: str) -> None:
    walked, wrong = walk()
    assert wrong == []
    assert walked.imbalance == 0
    assert walked.transfers >= len(lines(ann))


@pytest.mark.parametrize("edit", EDITS)
def test_a_row_that_was_edited_is_named_with_what_is_wrong(intruder: Connection, ann: str, edit: str) -> None:
    third = lines(ann)[2]
    for check in ("way", "undoes", "kind", "amount_check"):
        intruder.execute(
            text(f"ALTER TABLE generator_credit_transaction DROP CONSTRAINT generator_credit_transaction_{check}")
        )
    edited = text(f"UPDATE generator_credit_transaction SET {edit} WHERE id = :id RETURNING id")
    third = intruder.execute(edited, {"id": third}).scalar_one()
    [one] = found(intruder, ann)
    assert (one.id, set(one.faults)) == (third, EDITS[edit])


@pytest.mark.parametrize("gone", [0, 1, 2, 3])
def test_a_row_that_was_removed_is_missed_by_the_one_after_it(intruder: Connection, ann: str, gone: int) -> None:
    ids = lines(ann)
    intruder.execute(text("DELETE FROM generator_credit_transaction WHERE id = :id"), {"id": ids[gone]})
    [one] = found(intruder, ann)
    assert one.id == ids[gone + 1]
    assert Fault.MISSING in one.faults
    assert ("nothing" if gone == 0 else ids[gone - 1]) in one.detail


def test_a_row_that_was_cut_off_the_end_is_missed_by_its_account(intruder: Connection, ann: str) -> None:
    ids = lines(ann)
    intruder.execute(text("DELETE FROM generator_credit_transaction WHERE id = :id"), {"id": ids[-1]})
    [one] = found(intruder, ann)
    assert (one.id, one.faults) == (ids[-2], (Fault.END,))


def test_an_account_whose_rows_are_all_gone_is_named(intruder: Connection, ann: str) -> None:
    intruder.execute(text("DELETE FROM generator_credit_transaction WHERE holder = :who"), {"who": f"user:{ann}"})
    [one] = found(intruder, ann)
    assert (one.id, one.faults) == (None, (Fault.END,))
    assert "holds 18" in one.detail


@pytest.mark.parametrize("change", ["balance = balance + 1", "head = sha256(head)", "head = NULL"])
def test_an_account_that_was_changed_is_named_with_its_last_row(intruder: Connection, ann: str, change: str) -> None:
    account = {"who": f"user:{ann}"}
    intruder.execute(text(f"UPDATE generator_credit_account SET {change} WHERE id = :who"), account)
    [one] = found(intruder, ann)
    assert (one.id, one.faults) == (lines(ann)[-1], (Fault.END,))


def test_a_balance_out_of_nothing_is_named_and_puts_the_sum_out(intruder: Connection) -> None:
    eve = {"who": f"user:eve-{uuid.uuid4().hex[:8]}"}
    intruder.execute(text("INSERT INTO generator_credit_account (id, balance) VALUES (:who, 1000)"), eve)
    walked = Walk()
    [one] = [one for one in walked.findings(intruder) if one.account == eve["who"]]
    assert (one.id, one.faults) == (None, (Fault.END,))
    assert walked.imbalance == 1000


FORGED = text("""
INSERT INTO generator_credit_transaction
    (id, debit_account, credit_account, amount, reason, kind, balance, authorised_by, instruction, previous, hash, at)
SELECT 'forged:' || id, 'treasury', holder, 50, 'grant', 'admin', balance + 50, 'user:eve', 'none', hash, hash,
       at + interval '1 microsecond'
FROM generator_credit_transaction WHERE id = :after RETURNING id
""")
SEAL = text("""
UPDATE generator_credit_transaction AS row SET hash = generator_ledger_seal(row) WHERE id = :id
""")


def test_a_row_that_was_put_in_is_found_by_the_one_after_it_however_well_it_is_forged(
    intruder: Connection, ann: str
) -> None:
    ids = lines(ann)
    forged = intruder.execute(FORGED, {"after": ids[1]}).scalar_one()
    assert found(intruder, ann)[0].id == forged
    intruder.execute(SEAL, {"id": forged})
    [one] = found(intruder, ann)
    assert one.id == ids[2]
    assert set(one.faults) == {Fault.MISSING, Fault.BALANCE}


def test_a_row_that_was_put_at_the_end_is_not_what_its_account_ends_in(intruder: Connection, ann: str) -> None:
    forged = intruder.execute(FORGED, {"after": lines(ann)[-1]}).scalar_one()
    intruder.execute(SEAL, {"id": forged})
    [one] = found(intruder, ann)
    assert (one.id, one.faults) == (forged, (Fault.END,))


def test_refunds_above_what_was_paid_are_named_though_every_hash_is_right(intruder: Connection, ann: str) -> None:
    job = paid(ann, 4)
    back = post(refund(job))
    assert back
    forged = intruder.execute(FORGED, {"after": back.transfer_id}).scalar_one()
    made_refund = text("""
    UPDATE generator_credit_transaction SET reason = 'refund', kind = 'failed', debit_account = 'refund-reserve',
        amount = 1, balance = balance - 49, job_id = :job, undoes = :debit WHERE id = :id
    """)
    intruder.execute(made_refund, {"id": forged, "job": job.id, "debit": f"{job.id}:debit"})
    intruder.execute(SEAL, {"id": forged})
    adopted = text("""
    UPDATE generator_credit_account AS account SET balance = row.balance, head = row.hash
    FROM generator_credit_transaction AS row WHERE row.id = :id AND account.id = row.holder
    """)
    intruder.execute(adopted, {"id": forged})
    [one] = found(intruder, ann)
    assert (one.id, one.faults) == (forged, (Fault.REFUNDS,))
    assert "5 credits have come back of 4" in one.detail


def test_one_broken_account_does_not_hide_another(intruder: Connection, ann: str) -> None:
    bob = f"bob-{uuid.uuid4().hex[:8]}"
    granted(bob, 5)
    harm = text("UPDATE generator_credit_transaction SET amount = amount + 1 WHERE holder = ANY(:who)")
    intruder.execute(harm, {"who": [f"user:{ann}", f"user:{bob}"]})
    assert [one.id for one in found(intruder, ann)] == [lines(ann)[0]]
    assert [one.id for one in found(intruder, bob)] == lines(bob)


def test_a_walk_page_by_page_finds_the_same(monkeypatch: pytest.MonkeyPatch, intruder: Connection, ann: str) -> None:
    whole, wrong = walk()
    monkeypatch.setattr(ledger_verify, "PAGE", 97)
    by_pages, still_wrong = walk()
    assert (wrong, still_wrong) == ([], [])
    assert by_pages == whole
    fourth = lines(ann)[3]
    intruder.execute(text("UPDATE generator_credit_transaction SET spender = 'eve' WHERE id = :id"), {"id": fourth})
    assert [one.id for one in found(intruder, ann)] == [fourth]


OF_OLD = text("""
INSERT INTO generator_credit_transaction
    (id, debit_account, credit_account, amount, reason, balance, authorised_by, hash, at, format)
SELECT id, 'treasury', holder, 7, 'grant', 7, said_by,
       sha256(convert_to(jsonb_build_array(id, 'treasury', holder, 7, 'grant', NULL, NULL, 7, said_by, session_user,
                                           extract(epoch FROM at))::text, 'UTF8')), at, 1
FROM (SELECT CAST(:id AS text) AS id, CAST(:who AS text) AS holder, CAST(:by AS text) AS said_by,
             CAST(:at AS timestamptz) AS at) AS made
RETURNING hash
""")


@pytest.mark.parametrize(
    "at", ["2026-03-01 12:00:00.120000+00", "2026-03-01 12:00:00+02", "2026-03-01 12:00:00.000001+00"]
)
def test_rows_sealed_before_there_were_kinds_still_verify(intruder: Connection, at: str) -> None:
    user = f'\u00e4nn "quoted" \\ {uuid.uuid4().hex[:8]}'
    who = {"who": f"user:{user}"}
    intruder.execute(text("INSERT INTO generator_credit_account (id, balance) VALUES (:who, 7)"), who)
    head = intruder.execute(OF_OLD, who | {"id": f"{user}-old", "at": at, "by": "a \t b \x01 \U0001f600"}).scalar_one()
    intruder.execute(text("UPDATE generator_credit_account SET head = :head WHERE id = :who"), who | {"head": head})
    assert found(intruder, user) == []
    intruder.execute(text("UPDATE generator_credit_transaction SET amount = 8 WHERE holder = :who"), who)
    assert [set(one.faults) for one in found(intruder, user)] == [{Fault.HASH, Fault.BALANCE}]


@pytest.mark.parametrize(
    "words", ["plain", 'a "quote" and a \\', "tab\tnew\nline", "\u00e4\u20ac\U0001f600", "\x01\x1f\x7f</script>"]
)
def test_whatever_is_written_is_sealed_here_as_in_the_database(ann: str, words: str) -> None:
    job = kept(ann, 1)
    post(transfer.Transfer(**vars(debit(job)) | {"authorised_by": words, "instruction": words}))
    asked = text(f"SELECT {', '.join(f.name for f in fields(Sealed))} FROM generator_credit_transaction WHERE id = :id")
    with postgres.transaction() as tx:
        row = Sealed(**tx.execute(asked, {"id": f"{job.id}:debit"}).one()._mapping)
    assert row.seal() == row.hash
