"""The real servers: what they hold survives their being killed, and whoever starts them."""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
import requests
import sqlalchemy as sa
from botocore.config import Config
from botocore.exceptions import ClientError
from neighbour import eventually
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import Servers

from functions.stack import postgres
from functions.stack.process import become
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
WHOLE_STACK = """
import os, sys, threading
from pathlib import Path
import pg8000.dbapi, encodings.idna, scramp, sqlalchemy as sa, redis  # all that another user could not read later
from functions.stack import postgres, s3, valkey
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

folder, user = Path(sys.argv[1]), sys.argv[2]
if user:
    sa.create_engine("postgresql+pg8000://")
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
with State(folder) as state, Supervisor() as supervisor:
    parts = postgres.prepare(state), valkey.prepare(state), s3.prepare(state)
    supervisor.start(*(part.service for part in parts))
    with sa.create_engine(parts[0].owner_url).begin() as tx:
        tx.execute(sa.text("CREATE TABLE IF NOT EXISTS kept (n int)"))
        tx.execute(sa.text("INSERT INTO kept VALUES (1)"))
        rows = tx.execute(sa.text("SELECT count(*) FROM kept")).scalar_one()
    jobs = redis.Redis.from_url(parts[1].url).incr("kept")
    (parts[2].folder / "models" / f"{rows}.bin").touch()
    files = len(list((parts[2].folder / "models").iterdir()))
    print(rows, jobs, files, (folder / "postgres/data").resolve(), flush=True)
    if sys.argv[3] == "stay":
        threading.Event().wait()
"""
"""One whole stack that counts how often it was started: a row, a key and a file each time."""


def kill(servers: Servers, name: str) -> None:
    """kill -9, and wait until it is back."""
    before = servers.supervisor.pid(name)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: servers.supervisor.pid(name) != before)
    servers.supervisor.wait_ready(name)


def run(folder: Path, *, then: str, user: str = "", path: str = "") -> list[str]:
    """Start a whole stack in a process of its own; with `then` "stay" it is killed at once."""
    command = [sys.executable, "-c", WHOLE_STACK, str(folder), user, then]
    env = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        if then == "stay":
            process.kill()
        assert said, process.stderr.read()
    return said.split()


@pytest.fixture
def bucket(servers: Servers) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=servers.s3.endpoint_url,
        aws_access_key_id=servers.s3.access_key,
        aws_secret_access_key=servers.s3.secret_key,
        region_name="us-east-1",
        config=Config(
            signature_version="s3v4",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
            retries={"max_attempts": 1},
        ),
    )


def test_postgres_18_serves_three_roles_and_the_functions_own_no_tables(servers: Servers) -> None:
    with sa.create_engine(servers.postgres.app_url).connect() as tx:
        assert tx.execute(sa.text("SHOW server_version")).scalar_one().startswith("18.")
        assert tx.execute(sa.text("SELECT pg_has_role('generator_app', 'member')")).scalar_one()
        with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
            tx.execute(sa.text("CREATE TABLE mine (n int)"))
    with sa.create_engine(servers.postgres.owner_url).begin() as tx:
        tx.execute(sa.text("CREATE TABLE ours (n int)"))
        tx.execute(sa.text("DROP TABLE ours"))
    with sa.create_engine(servers.postgres.admin_url).connect() as tx:
        assert tx.execute(sa.text("SHOW fsync")).scalar_one() == "on"


def test_a_wrong_password_opens_nothing(servers: Servers) -> None:
    url = sa.make_url(servers.postgres.app_url).set(password="guess")
    with pytest.raises(sa.exc.DBAPIError, match="password authentication failed"):
        sa.create_engine(url).connect()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=servers.state.port("valkey"), retry=Retry(NoBackoff(), 0)).ping()


def test_a_killed_postgres_comes_back_with_all_that_was_committed(servers: Servers) -> None:
    engine = sa.create_engine(servers.postgres.owner_url, poolclass=sa.NullPool)
    with engine.begin() as tx:
        tx.execute(sa.text("CREATE TABLE survivor AS SELECT 7 AS n"))
    kill(servers, "postgres")
    with engine.connect() as tx:
        assert tx.execute(sa.text("SELECT n FROM survivor")).scalar_one() == 7


def test_a_killed_valkey_comes_back_with_all_that_was_written(servers: Servers) -> None:
    client = redis.Redis.from_url(servers.valkey.url)
    client.zadd("generator:{test}:queue", {"job": 1})
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    kill(servers, "valkey")
    assert client.zcard("generator:{test}:queue") == 1


def test_a_killed_s3_comes_back_with_all_that_was_put(servers: Servers, bucket: Any) -> None:
    bucket.put_object(Bucket="generator-outputs", Key="generated/a/1/0.png", Body=b"picture")
    kill(servers, "s3")
    assert bucket.get_object(Bucket="generator-outputs", Key="generated/a/1/0.png")["Body"].read() == b"picture"


def test_s3_does_what_the_runner_and_the_gallery_ask_of_it(servers: Servers, bucket: Any) -> None:
    outputs, key, body = "generator-outputs", "generated/b/1/0.png", bytes(range(256)) * 1024
    bucket.put_object(Bucket=outputs, Key=key, Body=body, ContentType="image/png", Metadata={"seed": "5"})
    head = bucket.head_object(Bucket=outputs, Key=key)
    assert (head["ContentLength"], head["ContentType"]) == (len(body), "image/png")
    assert head["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert bucket.get_object(Bucket=outputs, Key=key)["Body"].read() == body
    assert bucket.get_object(Bucket=outputs, Key=key, Range="bytes=256-259")["Body"].read() == b"\0\1\2\3"
    assert bucket.list_objects_v2(Bucket=outputs, Prefix="generated/b/")["KeyCount"] == 1
    bucket.copy_object(Bucket="visionsuit-images", Key="b.png", CopySource={"Bucket": outputs, "Key": key})
    assert bucket.head_object(Bucket="visionsuit-images", Key="b.png")["ContentLength"] == len(body)
    link = bucket.generate_presigned_url("get_object", Params={"Bucket": outputs, "Key": key}, ExpiresIn=60)
    assert requests.get(link, timeout=5).content == body
    bucket.delete_object(Bucket=outputs, Key=key)
    for ask in (bucket.head_object, bucket.get_object):
        with pytest.raises(ClientError) as absent:
            ask(Bucket=outputs, Key=key)
        assert absent.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_s3_refuses_who_has_no_key(servers: Servers) -> None:
    assert requests.get(f"{servers.s3.endpoint_url}/generator-outputs", timeout=5).status_code in (400, 403)


def test_a_model_copied_into_the_folder_is_an_object(servers: Servers, bucket: Any) -> None:
    folder = servers.s3.folder / "models" / "checkpoints"
    bucket.list_objects_v2(Bucket="models")
    folder.mkdir()
    (folder / "by-hand.safetensors").write_bytes(b"weights")

    def listed() -> bool:
        return "Contents" in bucket.list_objects_v2(Bucket="models", Prefix="checkpoints/")

    eventually(listed)


def test_a_stack_that_was_killed_whole_starts_again_and_has_lost_nothing(folder: Path) -> None:
    assert run(folder, then="stay")[:3] == ["1", "1", "1"]
    assert run(folder, then="end")[:3] == ["2", "2", "2"]


def test_a_pid_file_left_behind_neither_stops_postgres_nor_ends_a_stranger_of_that_pid(folder: Path) -> None:
    who = become("nobody" if os.geteuid() == 0 else None)
    with State(folder) as state, subprocess.Popen(["sleep", "60"], **who) as stranger:
        made = postgres.prepare(state)
        (folder / "postgres" / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n")
        with Supervisor() as supervisor:
            supervisor.start(made.service)
        assert stranger.poll() is None
        stranger.kill()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")


@as_root
def test_an_ordinary_user_can_run_it_too(folder: Path) -> None:
    user = pwd.getpwnam("daemon")
    os.chown(folder, user.pw_uid, user.pw_gid)
    assert run(folder, then="end", user=str(user.pw_uid))[0] == "1"
    assert (folder / "postgres" / "data").stat().st_uid == user.pw_uid


@pytest.fixture
def closed_folder(folder: Path) -> Iterator[Path]:
    """A folder only root can enter, with a copy of PostgreSQL's wheel in it."""
    folder.chmod(0o700)
    package = postgres.programs().parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, folder / "wheel" / part.name, symlinks=True)
    yield folder
    name = hashlib.sha256(str(folder / "state").encode()).hexdigest()[:16]
    shutil.rmtree(f"/var/tmp/visionsuit-generator-{name}")


@as_root
def test_under_a_folder_closed_to_others_root_keeps_binaries_and_data_elsewhere(closed_folder: Path) -> None:
    state, wheel = closed_folder / "state", str(closed_folder / "wheel")
    rows, *_, data = run(state, then="end", path=wheel)
    assert rows == "1"
    assert data.startswith("/var/tmp/visionsuit-generator-")
    assert run(state, then="end", path=wheel)[0] == "2"
    shutil.rmtree(state)
    assert run(state, then="end", path=wheel)[0] == "1"
