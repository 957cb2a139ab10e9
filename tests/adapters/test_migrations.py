"""The schema, brought up to date on a database of the test's own."""

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from live import Stack
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from functions.adapters import migrations
from functions.adapters.ledger_verify import Walk
from functions.adapters.migrations import Migration, MigrationRefused

NAMED = {
    *("generator_job", "generator_job_transition", "generator_artifact", "generator_review"),
    *("generator_credit_account", "generator_credit_transaction", "generator_workflow", "inbox", "outbox"),
}


@pytest.fixture
def database_url(stack: Stack) -> Iterator[str]:
    """The owner's way into an empty database."""
    name = f"migrated_{uuid.uuid4().hex[:8]}"
    admin = create_engine(stack.house.admin_database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} OWNER generator_owner"))
    owner = make_url(stack.house.env["MIGRATIONS_DATABASE_URL"]).set(database=name)
    yield owner.render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def tables(database_url: str) -> set[str]:
    engine = create_engine(database_url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


ALL = migrations.known()
NAMES = [one.name for one in ALL]
TABLE = Migration(name="9000_table", sql="CREATE TABLE nothing (id text)")


def test_an_empty_database_gets_every_table_and_a_second_run_does_nothing(database_url: str) -> None:
    assert migrations.migrate(database_url) == NAMES
    assert tables(database_url) >= NAMED
    assert migrations.migrate(database_url) == []


def test_runs_at_the_same_time_wait_for_each_other_and_each_migration_runs_once(database_url: str) -> None:
    ran: list[str] = []
    threads = [threading.Thread(target=lambda: ran.extend(migrations.migrate(database_url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran == NAMES


def test_a_newer_release_adds_only_what_is_new(database_url: str) -> None:
    migrations.migrate(database_url)
    assert migrations.migrate(database_url, [*ALL, TABLE]) == [TABLE.name]
    assert "nothing" in tables(database_url)


def test_a_migration_that_was_edited_after_it_ran_is_refused_by_name(database_url: str) -> None:
    migrations.migrate(database_url)
    edited = [replace(ALL[0], sql=ALL[0].sql + "\n-- an afterthought"), *ALL[1:], TABLE]
    with pytest.raises(MigrationRefused, match=f"{ALL[0].name} was edited after it was run"):
        migrations.migrate(database_url, edited)
    assert "nothing" not in tables(database_url)


def test_a_database_of_a_newer_release_is_refused_and_left_alone(database_url: str) -> None:
    migrations.migrate(database_url, [*ALL, TABLE])
    with pytest.raises(MigrationRefused, match=f"the database has {TABLE.name}, which this release does not know"):
        migrations.migrate(database_url)


def test_a_migration_that_fails_leaves_nothing_of_itself_and_what_ran_before_stays(database_url: str) -> None:
    half = Migration(name="9001_half", sql="CREATE TABLE half (id text); SELECT 1/0;")
    with pytest.raises(Exception, match="division by zero"):
        migrations.migrate(database_url, [*ALL, TABLE, half])
    assert "nothing" in tables(database_url)
    assert "half" not in tables(database_url)
    assert migrations.migrate(database_url, [*ALL, TABLE]) == []


def test_a_release_without_its_migrations_is_refused_rather_than_taken_for_up_to_date(database_url: str) -> None:
    with pytest.raises(MigrationRefused, match="no migrations"):
        migrations.migrate(database_url, [])
    assert tables(database_url) == set()


def test_the_functions_role_owns_nothing_and_makes_nothing(stack: Stack) -> None:
    app = create_engine(stack.house.env["DATABASE_URL"])
    for statement in ("CREATE TABLE mine (id text)", "DROP TABLE outbox", "DELETE FROM inbox", "DELETE FROM outbox"):
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"), app.begin() as tx:
            tx.execute(text(statement))
    app.dispose()


def test_migrations_run_in_the_order_of_their_names() -> None:
    assert sorted(NAMES) == NAMES
    assert all(name[:4].isdigit() for name in NAMES)


OF_OLD = """
INSERT INTO generator_workflow (id, version, title, sha256, object_key, document)
VALUES ('txt2img', '1.0.0', 't', repeat('0', 64), 'k', '{}');
INSERT INTO generator_job (id, user_id, role, pool, state, prompt, negative_prompt, workflow_id, workflow_version,
    workflow_sha256, model, seed, parameters, images, credits, due_ms, submitted_at, changed_at)
VALUES ('job', 'ann', 'CURATOR', 'default', 'submitted', 'a heron', '', 'txt2img', '1.0.0', '', 'm', 7, '{}', 1, 4, 0,
    now(), now());
SELECT generator_ledger_post('g', 'treasury', 'user:ann', 10, 'grant', NULL, NULL, 'me');
SELECT generator_ledger_post('job:debit', 'user:ann', 'revenue', 4, 'debit', 'job', NULL, 'me');
SELECT generator_ledger_post('job:refund', 'revenue', 'user:ann', 4, 'refund', 'job', 'job:debit', 'me');
"""


def test_a_ledger_from_before_there_were_kinds_is_carried_over_whole(database_url: str) -> None:
    """Rows, chains and balances still verify, and what was refunded cannot be refunded again."""
    migrations.migrate(database_url, [one for one in ALL if one.name < "0010"])
    engine = create_engine(database_url)
    with engine.begin() as tx:
        for statement in filter(str.strip, OF_OLD.split(";\n")):
            tx.execute(text(statement))
    assert migrations.migrate(database_url)[0] == "0010_ledger"
    walked = Walk()
    with engine.connect() as tx:
        assert list(walked.findings(tx)) == []
        assert tx.execute(text("SELECT paid, refunded FROM generator_credit_refund")).one() == (4, 4)
    assert (walked.transfers, walked.imbalance) == (3, 0)
    engine.dispose()


def test_jobs_that_failed_before_dead_ones_were_listed_are_listed(database_url: str) -> None:
    before = [one for one in ALL if one.name < "0009"]
    migrations.migrate(database_url, before)
    engine = create_engine(database_url)
    with engine.begin() as tx:
        tx.execute(
            text("""
            INSERT INTO generator_workflow (id, version, title, sha256, object_key, document)
            VALUES ('txt2img', '1.0.0', 't', repeat('0', 64), 'k', '{}')""")
        )
        for job_id, way in (("paid", ("debited", "failed")), ("unpaid", ("failed",)), ("fine", ("debited", "queued"))):
            tx.execute(
                text("""
                INSERT INTO generator_job (id, user_id, role, pool, state, prompt, negative_prompt, workflow_id,
                    workflow_version, workflow_sha256, model, seed, parameters, images, credits, due_ms, submitted_at,
                    changed_at)
                VALUES (:id, 'u', 'CURATOR', 'p', 'submitted', 'p', '', 'txt2img', '1.0.0', repeat('0', 64), 'm', 1,
                        '{}', 1, 1, 1, now(), now())"""),
                {"id": job_id},
            )
            for state in way:
                moved = {"id": job_id, "state": state, "cause": "timeout" if state == "failed" else None}
                tx.execute(text("UPDATE generator_job SET state = :state, cause = :cause WHERE id = :id"), moved)
    migrations.migrate(database_url)
    with engine.connect() as tx:
        found = tx.execute(text("SELECT job_id, root, serial, code FROM generator_dead_job")).all()
    engine.dispose()
    assert [tuple(row) for row in found] == [("paid", "paid", 0, "timeout")]
