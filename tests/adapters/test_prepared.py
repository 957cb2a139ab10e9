"""Statements are prepared once a connection, and behave as if they were not."""

from collections.abc import Iterator

import pytest
from live import Stack
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from functions.adapters import postgres, prepared


@pytest.fixture
def tx(stack: Stack) -> Iterator[Connection]:
    """A transaction with a small table, on a connection that is thrown away."""
    with postgres.engine().connect() as tx:
        tx.execute(text("CREATE TEMP TABLE heron (name text PRIMARY KEY, eggs integer)"))
        tx.commit()
        yield tx
        tx.invalidate()


ADD = text("INSERT INTO heron (name, eggs) VALUES (:name, :eggs)")
ALL = text("SELECT * FROM heron WHERE eggs >= :eggs ORDER BY name")
KNOWN = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%heron%' AND NOT from_sql")


def test_a_statement_is_prepared_once_however_often_it_runs(tx: Connection) -> None:
    for n in range(5):
        assert tx.execute(ADD, {"name": f"heron {n}", "eggs": n}).rowcount == 1
        assert len(tx.execute(ALL, {"eggs": 0}).all()) == n + 1
    assert [tuple(row) for row in tx.execute(ALL, {"eggs": 3})] == [("heron 3", 3), ("heron 4", 4)]
    assert tx.execute(KNOWN).scalar_one() == 2


def test_many_rows_at_once_and_none_at_all_are_told_by_the_count(tx: Connection) -> None:
    assert tx.execute(ADD, [{"name": str(n), "eggs": None} for n in range(3)]).rowcount == 3
    assert tx.execute(text("DELETE FROM heron WHERE eggs = :eggs"), {"eggs": 9}).rowcount == 0
    assert tx.execute(ALL, {"eggs": 0}).all() == []


def test_an_error_is_the_same_error_and_the_statement_may_run_again(tx: Connection) -> None:
    tx.execute(ADD, {"name": "grey", "eggs": 1})
    for _ in range(2):
        trial = tx.begin_nested()
        with pytest.raises(IntegrityError, match="heron_pkey"):
            tx.execute(ADD, {"name": "grey", "eggs": 2})
        trial.rollback()
    with pytest.raises(DBAPIError, match="no_such_table"):
        tx.execute(text("SELECT :n FROM no_such_table"), {"n": 1})


def test_a_statement_whose_table_changed_under_it_runs_again_after_one_error(tx: Connection) -> None:
    tx.execute(ALL, {"eggs": 0})
    tx.execute(text("ALTER TABLE heron ADD COLUMN mate text"))
    trial = tx.begin_nested()
    with pytest.raises(DBAPIError, match="cached plan"):
        tx.execute(ALL, {"eggs": 0})
    trial.rollback()
    assert list(tx.execute(ALL, {"eggs": 0}).keys()) == ["name", "eggs", "mate"]


def test_beyond_its_bound_a_connection_prepares_no_more(tx: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "MOST", 0)
    tx.execute(ADD, {"name": "grey", "eggs": 1})
    assert tx.execute(ALL, {"eggs": 0}).one().name == "grey"
    assert tx.execute(KNOWN).scalar_one() == 0
