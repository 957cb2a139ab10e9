"""The schema, brought up to date: plain SQL files, each run once, in order, and never edited after.

Safe to run twice at once (an advisory lock) and refused when it would go backwards: a database that knows a migration
this release does not have belongs to a newer release.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pg8000.native import Connection, DatabaseError, InterfaceError
from sqlalchemy import make_url

from functions.domain.errors import Unavailable

FOLDER = Path(__file__).parents[2] / "migrations"
LOCK = 0x76736765  # "vsge"

JOURNAL = """
CREATE TABLE IF NOT EXISTS schema_migration (
    name       text        PRIMARY KEY,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationRefused(Exception):
    """The schema cannot be brought to this release; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One SQL file; names sort in the order they run."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known(folder: Path = FOLDER) -> list[Migration]:
    """The migrations of this release, in order."""
    return [Migration(name=f.stem, sql=f.read_text()) for f in sorted(folder.glob("[0-9]*.sql"))]


def migrate(database_url: str, migrations: list[Migration] | None = None) -> list[str]:
    """Bring the schema up to date as the owner in `database_url`; gives the names of what was run now."""
    migrations = known() if migrations is None else migrations
    if not migrations:
        raise MigrationRefused(f"there are no migrations in {FOLDER}: run from a checkout, or from the image")
    url = make_url(database_url)
    try:
        connection = Connection(
            user=url.username or "",
            password=url.password,
            host=url.host or "localhost",
            port=url.port or 5432,
            database=url.database,
        )
    except (DatabaseError, InterfaceError) as error:
        said = error.args[0].get("M") if isinstance(error.args[0], dict) else error
        raise Unavailable(f"Postgres at {url.host}:{url.port or 5432} does not let us in: {said}") from error
    try:
        connection.run("SELECT pg_advisory_lock(:lock)", lock=LOCK)
        connection.run(JOURNAL)
        applied = dict(connection.run("SELECT name, sha256 FROM schema_migration") or [])
        _refuse_drift(applied, migrations)
        pending = [m for m in migrations if m.name not in applied]
        for migration in pending:
            connection.run("BEGIN")
            connection.run(migration.sql)
            connection.run(
                "INSERT INTO schema_migration (name, sha256) VALUES (:name, :sha256)",
                name=migration.name,
                sha256=migration.sha256,
            )
            connection.run("COMMIT")
        return [m.name for m in pending]
    finally:
        connection.close()


def _refuse_drift(applied: dict[str, str], migrations: list[Migration]) -> None:
    ours = {m.name: m.sha256 for m in migrations}
    for name, sha256 in applied.items():
        if name not in ours:
            raise MigrationRefused(f"the database has {name}, which this release does not know: run a newer release")
        if ours[name] != sha256:
            raise MigrationRefused(f"{name} was edited after it was run: restore the file, add a new migration instead")
