"""Who may touch the ledger: one routine, a few reasons for each role, and nothing at all by hand."""

import uuid
from collections.abc import Iterator

import pytest
from book import granted
from live import TESTER, Stack
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from functions.adapters import grants, ledger, postgres
from functions.domain import transfer
from functions.domain.transfer import Kind, Reason, Transfer

pytestmark = pytest.mark.usefixtures("stack")

KINDS = {
    Reason.DEBIT: (Kind.PRICE, Kind.UNDO),
    Reason.REFUND: (Kind.FAILED, Kind.CANCELLED, Kind.MODERATION, Kind.MISSING, Kind.DISCARD),
    Reason.GRANT: (Kind.REFRESH, Kind.ACHIEVEMENT, Kind.ADMIN),
    Reason.ADJUSTMENT: (Kind.ADMIN, Kind.REVOCATION),
}
REVIEW = {(Reason.REFUND, Kind.MODERATION), (Reason.REFUND, Kind.DISCARD), (Reason.DEBIT, Kind.UNDO)}
REFRESH, CANCEL = (Reason.GRANT, Kind.REFRESH), (Reason.REFUND, Kind.CANCELLED)
MAY_POST: dict[str, set[tuple[Reason, Kind]]] = {
    "submit": {REFRESH},
    "debit": {(Reason.DEBIT, Kind.PRICE), REFRESH},
    "dispatch": set(),
    "render": set(),
    "complete": {(Reason.REFUND, Kind.FAILED), (Reason.REFUND, Kind.MISSING)},
    "review": REVIEW,
    "cancel": {CANCEL},
    "sweep": {(Reason.REFUND, Kind.FAILED)},
    "earn": {
        *((Reason.GRANT, kind) for kind in KINDS[Reason.GRANT]),
        *((Reason.ADJUSTMENT, kind) for kind in KINDS[Reason.ADJUSTMENT]),
    },
    "api": {REFRESH, CANCEL, *REVIEW},  # the REST door lets submit, cancel and review hear in its own process
    "deadletter": set(),
    "metrics": set(),
    "operator": set(),
    "catalogue": set(),
    "app": {(reason, kind) for reason, kinds in KINDS.items() for kind in kinds},  # a single login for all
}


@pytest.fixture
def admin(stack: Stack) -> Iterator[Connection]:
    """A superuser, whose transaction is rolled back."""
    engine = create_engine(str(stack.house.admin_database_url), poolclass=NullPool)
    with engine.connect() as tx:
        yield tx
        tx.rollback()


def refusal(tx: Connection, role: str, statement: str, **values: object) -> str:
    """Why this role may not run a statement; empty when it may. What it did is undone."""
    trial = tx.begin_nested()
    try:
        tx.execute(text(f"SET LOCAL ROLE generator_{role}"))
        tx.execute(text(statement), values)
    except DBAPIError as error:
        return str(error.orig)
    finally:
        trial.rollback()
    return ""


POST = """SELECT generator_ledger_post(:id, 'nobody', 'user:eve', 5, :reason, :kind, 'no-job', NULL, 'me', 'nothing')"""


@pytest.mark.parametrize("role", MAY_POST)
def test_a_role_may_post_what_its_function_does_and_nothing_else(admin: Connection, role: str) -> None:
    def may(reason: Reason, kind: Kind) -> bool:
        said = refusal(admin, role, POST, id=uuid.uuid4().hex, reason=reason, kind=kind)
        return "permission denied" not in said

    assert {(reason, kind) for reason, kinds in KINDS.items() for kind in kinds if may(reason, kind)} == MAY_POST[role]


WRITES = [
    "INSERT INTO generator_credit_account (id, balance) VALUES ('user:eve', 1000000)",
    "UPDATE generator_credit_account SET balance = balance + 1",
    "DELETE FROM generator_credit_account",
    "TRUNCATE generator_credit_account CASCADE",
    "INSERT INTO generator_credit_transaction (id) SELECT id FROM generator_credit_transaction LIMIT 1",
    "UPDATE generator_credit_transaction SET amount = amount + 1",
    "DELETE FROM generator_credit_transaction",
    "TRUNCATE generator_credit_transaction CASCADE",
    "ALTER TABLE generator_credit_transaction DISABLE TRIGGER append_only",
    "ALTER TABLE generator_credit_transaction DISABLE TRIGGER ALL",
    "DROP TABLE generator_credit_transaction",
    "CREATE OR REPLACE FUNCTION generator_ledger_holds(account text) RETURNS boolean LANGUAGE sql RETURN true",
    "UPDATE generator_credit_refund SET refunded = 0",
    "DELETE FROM generator_credit_refund",
    "UPDATE generator_spending SET day = 0",
    "SELECT generator_ledger_spend(ARRAY['user:eve'], -100, current_date)",
    "INSERT INTO generator_ledger_right VALUES ('generator_debit', 'grant', 'admin')",
    "UPDATE generator_ledger_bound SET value = 1000000",
    "UPDATE generator_credit_grant SET amount = 1000000",
    "UPDATE generator_credit_grant SET needs_approval = false",
    "DELETE FROM generator_credit_grant",
]
#: What a superuser's session may always do, whichever role it has taken on.
OF_A_LOGIN = ["SET ROLE generator_ledger", "SET session_replication_role = replica"]


@pytest.mark.parametrize("write", WRITES)
def test_no_role_writes_the_ledger_but_through_the_routine(admin: Connection, write: str) -> None:
    for role in MAY_POST:
        said = refusal(admin, role, write)
        assert "permission denied" in said or "must be owner" in said, role


@pytest.mark.parametrize("write", [*WRITES, *OF_A_LOGIN])
def test_the_functions_own_login_cannot_write_the_ledger_but_through_the_routine(write: str) -> None:
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"), postgres.transaction() as tx:
        tx.execute(text(write))


@pytest.mark.parametrize("write", ["UPDATE {} SET amount = 1", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_not_even_the_owner_edits_or_removes_a_transfer(stack: Stack, write: str) -> None:
    granted(f"ann-{uuid.uuid4().hex[:8]}", 1)
    owner = create_engine(stack.house.env["MIGRATIONS_DATABASE_URL"])
    with pytest.raises(DBAPIError, match="only ever added to"), owner.begin() as tx:
        tx.execute(text(write.format("generator_credit_transaction")))
    owner.dispose()


def test_the_schemas_owner_cannot_post(stack: Stack) -> None:
    owner = create_engine(stack.house.env["MIGRATIONS_DATABASE_URL"])
    with pytest.raises(DBAPIError, match="permission denied"), owner.begin() as tx:
        tx.execute(text(POST), {"id": "x", "reason": "grant", "kind": "refresh"})
    owner.dispose()


def test_a_temporary_table_cannot_stand_in_for_a_real_one() -> None:
    ann = f"ann-{uuid.uuid4().hex[:8]}"
    with postgres.transaction() as tx:
        tx.execute(text("CREATE TEMP TABLE generator_credit_grant (LIKE public.generator_credit_grant)"))
        tx.execute(text("GRANT ALL ON pg_temp.generator_credit_grant TO PUBLIC"))
        forged = text("""
        INSERT INTO pg_temp.generator_credit_grant
            (id, account, amount, kind, reason, requested_by, instruction, requested_at, written_by, needs_approval)
        VALUES ('forged', :account, 1000, 'grant', 'r', 'eve', 'i', now(), 'eve', false)
        """)
        tx.execute(forged, {"account": f"user:{ann}"})
        with pytest.raises(DBAPIError, match="no such grant"):
            ledger.post(tx, transfer.grant(ann, 1000, key="forged", authorised_by="user:eve"))
        tx.rollback()


# --- grants: one role writes them down, another carries them out ---

ASK = """
INSERT INTO generator_credit_grant (id, account, amount, kind, reason, requested_by, instruction)
VALUES (:id, 'user:ann', :amount, :kind, 'a test', :by, 'signed')
"""


def asked(tx: Connection, amount: int, *, by: str = "root", kind: str = "grant") -> str:
    """A grant that was written down; gives its id."""
    key = f"grant-{uuid.uuid4().hex[:8]}"
    tx.execute(text(ASK), {"id": key, "amount": amount, "kind": kind, "by": by})
    return key


def approve(tx: Connection, key: str, by: str) -> None:
    tx.execute(
        text("UPDATE generator_credit_grant SET approved_by = :by, approval = 'signed' WHERE id = :id"),
        {"id": key, "by": by},
    )


def carried_out(tx: Connection, key: str, amount: int) -> bool:
    """Whether the ledger takes this grant as it stands."""
    trial = tx.begin_nested()
    try:
        return ledger.post(tx, transfer.grant("ann", amount, key=key, authorised_by="user:root")) is not None
    except DBAPIError as error:
        assert "no such grant, or it is not approved" in str(error.orig)
        return False
    finally:
        trial.rollback()


def test_who_writes_a_grant_down_cannot_post_it_and_who_posts_it_cannot_write_it_down(admin: Connection) -> None:
    values = {"id": "g", "amount": 5, "kind": "grant", "by": "root"}
    writers = {role for role in MAY_POST if not refusal(admin, role, ASK, **values)}
    assert writers == {"api", "operator", "app"}
    assert not {role for role in writers - {"app"} if (Reason.GRANT, Kind.ADMIN) in MAY_POST[role]}


def test_a_grant_up_to_the_limit_needs_one_admin_and_above_it_a_second(admin: Connection) -> None:
    assert carried_out(admin, asked(admin, 500), 500)
    large = asked(admin, 501)
    assert not carried_out(admin, large, 501)
    approve(admin, large, "second")
    assert carried_out(admin, large, 501)


def test_a_grant_to_oneself_needs_a_second_admin_however_small(admin: Connection) -> None:
    own = asked(admin, 1, by="ann")
    assert not carried_out(admin, own, 1)
    approve(admin, own, "second")
    assert carried_out(admin, own, 1)


@pytest.mark.parametrize("by", ["root", "ann"])
def test_neither_the_asker_nor_who_gets_it_is_a_second_admin(admin: Connection, by: str) -> None:
    large = asked(admin, 501)
    with pytest.raises(DBAPIError, match="check"):
        approve(admin, large, by)


def test_a_grant_moves_exactly_what_was_asked_for_to_whom_it_was_asked_for(admin: Connection) -> None:
    key = asked(admin, 5)
    assert not carried_out(admin, key, 6)
    assert not carried_out(admin, "another", 5)
    made = transfer.grant("eve", 5, key=key, authorised_by="user:root")
    for change in ({}, {"id": f"user:ann:grant:{key}"}):
        trial = admin.begin_nested()
        with pytest.raises(DBAPIError, match="no such grant"):
            ledger.post(admin, Transfer(**vars(made) | change))
        trial.rollback()


def test_a_second_admin_who_comes_too_late_is_refused(admin: Connection) -> None:
    large = asked(admin, 501)
    admin.execute(text("ALTER TABLE generator_credit_grant DISABLE TRIGGER guard"))
    admin.execute(
        text("UPDATE generator_credit_grant SET requested_at = now() - interval '25 hours' WHERE id = :id"),
        {"id": large},
    )
    admin.execute(text("ALTER TABLE generator_credit_grant ENABLE TRIGGER guard"))
    with pytest.raises(DBAPIError, match="too long ago"):
        approve(admin, large, "second")


def test_what_was_asked_for_is_decided_once_and_never_edited(admin: Connection) -> None:
    large = asked(admin, 501)
    for edit in ("amount = 1", "account = 'user:eve'", "needs_approval = false", "requested_by = 'eve'"):
        trial = admin.begin_nested()
        with pytest.raises(DBAPIError, match="what was asked for stands"):
            admin.execute(text(f"UPDATE generator_credit_grant SET {edit} WHERE id = :id"), {"id": large})
        trial.rollback()
    admin.execute(text("UPDATE generator_credit_grant SET withdrawn_by = 'root' WHERE id = :id"), {"id": large})
    assert not carried_out(admin, large, 501)
    with pytest.raises(DBAPIError, match="approved or withdrawn once"):
        approve(admin, large, "second")


def test_a_grant_cannot_come_approved(admin: Connection) -> None:
    forged = ASK.replace("instruction)", "instruction, approved_by, approval, approved_at)").replace(
        "'signed')", "'signed', 'second', 'signed', now())"
    )
    with pytest.raises(DBAPIError, match="asked for first"):
        admin.execute(text(forged), {"id": "g", "amount": 501, "kind": "grant", "by": "root"})


def test_a_revocation_takes_what_was_granted_and_no_more_than_there_is(admin: Connection) -> None:
    assert grants.give(admin, TESTER, "ann", 5, id=uuid.uuid4().hex, reason="a test")
    key = asked(admin, -5, kind="revocation")
    taken = grants.found(admin, key).transfer()
    assert (taken.debit_account, taken.credit_account, taken.amount) == ("user:ann", "treasury", 5)
    before = ledger.balance(admin, "user:ann")
    assert ledger.post(admin, taken)
    assert ledger.balance(admin, "user:ann") == before - 5


# --- and what comes without an admin is bounded, whoever asks for it ---


def achievement(tx: Connection, name: str, amount: int) -> bool:
    made = transfer.achievement("ann", amount, name=name, authorised_by="user:ann", instruction="signed")
    trial = tx.begin_nested()
    try:
        posted = ledger.post(tx, made) is not None
    except DBAPIError as error:
        assert "worth 100 credits at the most" in str(error.orig)
        trial.rollback()
        return False
    trial.commit()
    return posted


def test_an_achievement_pays_once_and_a_day_of_them_has_a_bound(admin: Connection) -> None:
    assert not achievement(admin, "huge", 101)
    assert [achievement(admin, f"curated-{n % 10}", 100) for n in range(11)] == [True] * 10 + [False]
    assert not achievement(admin, "one-more", 1)
