"""Postgres: the truth. One engine a process, one transaction at a time, and what may only happen after its commit."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from functions.adapters import prepared
from functions.config import config
from functions.domain.errors import Unavailable

log = logging.getLogger(__name__)
AFTER = "after_commit"
PAGE = 100
N = TypeVar("N", bound="Numbered")

#: SQLSTATE classes that a later try may not meet again: connection gone, rolled back by a conflict, out of resources,
#: server shutting down or starting.
PASSING = ("08", "40", "53", "57")


@cache
def engine() -> Engine:
    """The process's connections, made at the first use."""
    engine = create_engine(
        config().need("database_url"),
        pool_size=config().database_pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        hide_parameters=True,  # an error must not carry a prompt into a log
        connect_args={"timeout": 30},
    )
    event.listen(engine, "do_connect", lambda dialect, record, args, named: prepared.Connection(*args, **named))
    return engine


@contextmanager
def transaction() -> Iterator[Connection]:
    """A transaction: committed when the block ends well, else rolled back. Unavailable when Postgres is not there.

    What the block hands to `after_commit` runs once the commit stands.
    """
    try:
        tx = engine().connect()
    except (DBAPIError, PoolTimeout, OSError) as error:
        raise Unavailable(f"Postgres cannot be reached: {error.__class__.__name__}") from error
    tx.info[AFTER] = []
    try:
        with tx:
            yield tx
            tx.commit()
            effects = tx.info.pop(AFTER)
    except (OperationalError, InterfaceError) as error:
        raise Unavailable(f"Postgres: {_reason(error)}") from error
    except DBAPIError as error:
        if str(_field(error, "C"))[:2] in PASSING:
            raise Unavailable(f"Postgres: {_reason(error)}") from error
        _forget_row(error)
        raise
    for effect in effects:
        effect()


class Numbered(Protocol):
    """A row that is one of an ever-growing line."""

    @property
    def number(self) -> int: ...


def each(find: Callable[..., Sequence[N]]) -> Iterator[N]:
    """Every row there is, read page by page, a transaction each. What comes while this walks is met last.

    find(tx, after=, limit=): rows in the order of their numbers, from just above `after`.
    """
    after = 0
    while True:
        with transaction() as tx:
            page = find(tx, after=after, limit=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].number


def after_commit(tx: Connection, effect: Callable[[], object]) -> None:
    """Do this once the transaction stands: what Redis is told must already be true in Postgres.

    A crash in between loses the effect, so every effect is one that `sweep` can make up for.
    """

    def guarded() -> None:
        try:
            effect()
        except Unavailable as error:
            log.warning("after commit: %s; sweep will make up for it", error)

    tx.info[AFTER].append(guarded)


def _field(error: DBAPIError, key: str) -> object:
    said = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return said.get(key, "") if isinstance(said, dict) else ""


def _forget_row(error: DBAPIError) -> None:
    """Take the row out of an error: where a CHECK refuses one, Postgres quotes it whole, prompt and all."""
    said = error.orig.args[0] if error.orig is not None and error.orig.args else None
    if isinstance(said, dict) and said.pop("D", None):
        error.args = (f"{error.orig.__class__.__name__}: {said}",)


def _reason(error: DBAPIError) -> object:
    return _field(error, "M") or error.__class__.__name__
