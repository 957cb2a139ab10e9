"""A Postgres connection that prepares what it is asked: each statement is parsed once, and then takes one round trip.

pg8000 1.31 reads a statement character by character to number its parameters and sends it in three round trips, each
time anew. Ours are constants, so both need be done once a connection. Plans stay the server's to choose
(plan_cache_mode): where one for all values would be a poor one, it plans for each.
"""

from functools import lru_cache
from typing import Any

from pg8000 import dbapi, legacy
from pg8000.core import make_params
from pg8000.exceptions import DatabaseError

#: Statements kept a connection; ours are a hundred or so, and whatever goes beyond runs as before.
MOST = 400
#: The statement's result changed under it, or the server forgot it: a migration ran, a pooler is in between.
STALE = ("0A000", "26000")


class Cursor(legacy.Cursor):  # type: ignore[misc]
    """A cursor whose statements are prepared."""

    def execute(self, operation: str, args: Any = (), stream: Any = None) -> "Cursor":
        prepared = self._c.prepared(operation, len(args)) if args and not stream and not self._input_oids else None
        if prepared is None:
            super().execute(operation, args, stream)
            return self
        try:
            if not self._c._in_transaction and not self._c.autocommit:
                self._c.execute_simple("begin transaction")
            self._context = self._c.execute_named(*prepared.with_(make_params(self._c.py_types, args)))
        except DatabaseError as error:
            raise self._c.as_dbapi(error, operation) from None
        self._row_iter = iter(self._context.rows or ())
        return self


class Prepared:
    """A statement that the server knows by a name."""

    def __init__(self, connection: legacy.Connection, statement: str) -> None:
        self._statement = statement
        self._name, self._columns, self._input_funcs = connection.prepare_statement(statement, ())

    def with_(self, params: Any) -> tuple[Any, ...]:
        """The arguments of pg8000's `execute_named`."""
        return self._name, params, self._columns, self._input_funcs, self._statement


class Connection(legacy.Connection):  # type: ignore[misc]
    """A connection that remembers what it has prepared."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepared: dict[str, Prepared] = {}

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.execute_simple("commit")

    def rollback(self) -> None:
        if self._in_transaction:
            self.execute_simple("rollback")

    def prepared(self, operation: str, size: int) -> Prepared | None:
        """The statement as the server knows it; None when there are too many."""
        known = self._prepared.get(operation)
        if known is None and len(self._prepared) < MOST and self._sock is not None:
            try:
                known = self._prepared[operation] = Prepared(self, numbered(operation, size))
            except DatabaseError as error:
                raise self.as_dbapi(error, operation) from None
        return known

    def as_dbapi(self, error: DatabaseError, operation: str) -> Exception:
        """The error as pg8000's own cursor raises it."""
        said = error.args[0]
        code = said.get("C") if isinstance(said, dict) else None
        if code in STALE:
            self._prepared.pop(operation, None)
        known = {"28000": legacy.InterfaceError, "23505": legacy.IntegrityError}.get(str(code), legacy.ProgrammingError)
        raised: Exception = known(said)
        return raised


@lru_cache(maxsize=2 * MOST)
def numbered(operation: str, size: int) -> str:
    """The statement with $1, $2 ... for its parameters."""
    return str(dbapi.convert_paramstyle("format", operation, [None] * size)[0])
