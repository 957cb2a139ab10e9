"""The servers a run is measured on: our own, from the wheels, on loopback, gone when the run ends."""

import os
import shutil
import subprocess
import tempfile
import urllib.parse
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pg8000.native
import redis

from bench.actor import Actor
from bench.address import address
from functions.adapters import migrations
from functions.config import SETTINGS
from functions.stack import valkey
from functions.stack.postgres import Postgres, programs
from functions.stack.postgres import prepare as prepare_postgres
from functions.stack.process import ServiceFailed
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".bench"


class Servers:
    """Valkey and Postgres as the local stack runs them, each started when a row first asks for it, and the processes
    that rows measure in."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="visionsuit-bench-"))
        self._root.chmod(0o711)  # under root, Postgres runs as another user, who must get to its data
        self._state = State(self._root)
        self._supervisor = Supervisor()
        self._actors: dict[tuple[Any, ...], Actor] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dismiss()
        self._supervisor.stop()
        self._state.close()
        shutil.rmtree(self._root)

    @cached_property
    def redis_url(self) -> str:
        server = valkey.prepare(self._state)
        self._supervisor.start(server.service)
        return server.url

    @cached_property
    def redis(self) -> Any:
        """A connection of the bench's own, for what no row times."""
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    def empty(self) -> None:
        """Forget all that Valkey holds, now: left to itself it frees the memory while the next round runs."""
        self.redis.execute_command("FLUSHALL", "SYNC")

    @cached_property
    def postgres(self) -> Postgres:
        """Postgres with our schema."""
        server = prepare_postgres(self._state)
        self._supervisor.start(server.service)
        migrations.migrate(server.owner_url)
        return server

    def python(self, module: str, number: int = 0, **settings: str) -> Actor:
        """A Python process that runs functions of this module, with these settings of ours."""
        key = ("python", module, number, *sorted(settings.items()))
        if key not in self._actors:
            bare = {name: value for name, value in os.environ.items() if name.lower() not in SETTINGS}
            path = f"{ROOT}:{ROOT / 'tests'}:{PEERS / 'python'}"
            env = bare | {"PYTHONPATH": path, "REDIS_URL": self.redis_url} | settings
            self._actors[key] = Actor.python(module, env)
        return self._actors[key]

    def node(self, script: str, number: int = 0) -> Actor:
        """A Node process that runs functions of a script in `peers/`, beside the peers' own packages."""
        key = ("node", script, number)
        if key not in self._actors:
            shutil.copy(Path(__file__).parent / "peers" / script, PEERS / "node")  # it imports what lies beside it
            self._actors[key] = Actor.node(PEERS / "node" / script, dict(os.environ) | {"REDIS_URL": self.redis_url})
        return self._actors[key]

    def dismiss(self) -> None:
        """End the processes that rows measured in."""
        for actor in self._actors.values():
            actor.close()
        self._actors.clear()

    def database(self, name: str) -> Postgres:
        """Another database beside the first, with our schema too."""
        first = self.postgres
        self.run_sql(f"CREATE DATABASE {name}", first.owner_url)
        urls = {
            role: f"{getattr(first, role).rpartition('/')[0]}/{name}" for role in ("owner_url", "app_url", "admin_url")
        }
        migrations.migrate(urls["owner_url"])
        return replace(first, **urls)

    def run_sql(self, script: str, url: str | None = None) -> None:
        """Run statements, one after the other; as the schema's owner unless told otherwise."""
        with pg8000.native.Connection(**address(url or self.postgres.owner_url)) as connection:
            for statement in script.split(";\n"):
                connection.run(statement)

    def columns(self, table: str, url: str) -> list[str]:
        """The columns of a table, in order."""
        with pg8000.native.Connection(**address(url)) as connection:
            rows = connection.run(
                "SELECT column_name FROM information_schema.columns WHERE table_name = :table "
                "AND is_generated = 'NEVER' ORDER BY ordinal_position",
                table=table,
            )
        return [str(name) for [name] in rows]

    def pgbench(self, script: str, *, clients: int, transactions: int, **variables: int) -> float:
        """Transactions a second of a script, prepared; so many by each client."""
        path = self._root / "script.sql"
        path.write_text(script)
        url = urllib.parse.urlsplit(self.postgres.app_url)
        done = subprocess.run(
            [
                str(programs() / "pgbench"),
                *("-h", "127.0.0.1", "-p", str(url.port), "-U", str(url.username), "-n", "-M", "prepared"),
                *("-c", str(clients), "-j", str(min(clients, 2)), "-t", str(transactions), "-f", str(path)),
                *(part for name, value in variables.items() for part in ("-D", f"{name}={value}")),
                url.path.lstrip("/"),
            ],
            env=dict(os.environ) | {"PGPASSWORD": str(url.password)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceFailed(f"pgbench failed with {done.returncode}:\n{done.stdout}{done.stderr}")
        return next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps = "))
