"""The trial's secrets, roles and users, on the servers they are for."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pg8000.native
import pytest
import redis
import yaml
from chart import CHART, of_kind, program, rendered
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import make_url

from functions.adapters import migrations
from functions.stack import postgres, process, s3, valkey
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

TRIAL = CHART / "ci" / "trial-values.yaml"
SECRET = "generator-trial"


@pytest.fixture(scope="module")
def secret() -> dict[str, str]:
    return dict(of_kind(rendered(TRIAL), "Secret")[SECRET]["stringData"])


@pytest.fixture(scope="module")
def state() -> Iterator[State]:
    with tempfile.TemporaryDirectory(prefix="generator-test-") as folder:
        Path(folder).chmod(0o711)  # under root, Postgres runs as another user
        with State(Path(folder)) as state:
            yield state


@pytest.fixture(scope="module")
def database(state: State, secret: dict[str, str]) -> Iterator[dict[str, str]]:
    """A Postgres that was first started with the trial's roles.sql; gives the trial's URLs, leading to it."""
    server = postgres.prepare(state)
    admin = make_url(server.admin_url)
    with Supervisor() as supervisor:
        supervisor.start(server.service)
        connection = pg8000.native.Connection(
            user=str(admin.username), password=admin.password, host="127.0.0.1", port=admin.port, database="postgres"
        )
        for leftover in ("DATABASE generator", "ROLE generator", "ROLE generator_app", "ROLE generator_owner"):
            connection.run(f"DROP {leftover}")
        for statement in secret["roles.sql"].strip().split(";\n"):
            connection.run(statement.rstrip(";"))
        connection.close()
        urls = {name: make_url(secret[name]) for name in ("url", "migrations-url")}
        assert {url.host for url in urls.values()} == {"generator-postgres.generator.svc.cluster.local"}
        here = {name: url.set(host="127.0.0.1", port=admin.port) for name, url in urls.items()}
        yield {name: url.render_as_string(hide_password=False) for name, url in here.items()}


def test_the_owner_can_migrate_and_the_functions_can_only_work(database: dict[str, str]) -> None:
    assert migrations.migrate(database["migrations-url"]) == [one.name for one in migrations.known()]
    assert migrations.migrate(database["migrations-url"]) == []
    url = make_url(database["url"])
    app = pg8000.native.Connection(
        user=str(url.username), password=url.password, host="127.0.0.1", port=url.port, database=url.database
    )
    assert app.run("SELECT count(*) FROM generator_job") == [[0]]
    for forbidden in ("CREATE TABLE mine (x int)", "DELETE FROM generator_credit_transaction", "CREATE ROLE mine"):
        with pytest.raises(pg8000.native.DatabaseError, match="42501"):
            app.run(forbidden)
    app.close()


def test_the_catalogue_makes_known_what_there_is_and_may_run_again(state: State, database: dict[str, str]) -> None:
    migrations.migrate(database["migrations-url"])
    cellar = s3.prepare(state)
    job = of_kind(rendered(TRIAL), "Job")["generator-catalogue"]
    [container] = job["spec"]["template"]["spec"]["containers"]
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(CHART.parents[1]),
        "DATABASE_URL": database["url"],
        "S3_ENDPOINT_URL": cellar.endpoint_url,
        "S3_ACCESS_KEY_ID": cellar.access_key,
        "S3_SECRET_ACCESS_KEY": cellar.secret_key,
    }
    with Supervisor() as supervisor:
        supervisor.start(cellar.service)
        first, second = (
            subprocess.run(
                [*container["command"], *container["args"]], env=env, capture_output=True, text=True, check=False
            )
            for _ in range(2)
        )
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "txt2img" in first.stdout
    assert "1 new or replaced" in first.stdout
    assert "demo holds 500 credits" in first.stdout
    assert "0 new or replaced" in second.stdout
    url = make_url(database["url"])
    app = pg8000.native.Connection(
        user=str(url.username), password=url.password, host="127.0.0.1", port=url.port, database=url.database
    )
    assert app.run("SELECT id, balance FROM generator_credit_account WHERE id LIKE 'user:%'") == [["user:demo", 500]]
    app.close()


@pytest.fixture(scope="module")
def waiting_room(state: State, secret: dict[str, str]) -> Iterator[Any]:
    """A Valkey with the trial's users; gives a way in for each."""
    port, folder = state.port("valkey"), state.folder("valkey")
    (folder / "users.acl").write_text(secret["users.acl"])
    [trial] = [one for name, one in of_kind(rendered(TRIAL), "StatefulSet").items() if name == "generator-valkey"]
    [container] = trial["spec"]["template"]["spec"]["containers"]
    place = {"/data": str(folder), "/etc/valkey/users.acl": str(folder / "users.acl")}
    arguments = [place.get(one, one) for one in container["args"][1:]]

    def user(name: str, password: str) -> Any:
        once = Retry(NoBackoff(), 0)
        return redis.Redis(port=port, username=name, password=password, decode_responses=True, retry=once)

    def up() -> bool:
        try:
            return bool(user("keda", secret["keda-password"]).ping())
        except redis.RedisError:
            return False

    service = process.Service(
        name="valkey",
        argv=(str(valkey.binary()), "--bind", "127.0.0.1", "--port", str(port), *arguments),
        cwd=folder,
        log=state.log("valkey"),
        pid_file=state.pid_file("valkey"),
        ready=up,
    )
    with Supervisor() as supervisor:
        supervisor.start(service)
        yield user


# What KEDA runs: `getListLength` in pkg/scalers/redis_scaler.go of v2.20.2 asks for the type, then for its length.
KEDA_COUNTS = """
local type = redis.call('type', KEYS[1]).ok
if type == 'zset' then return redis.call('zcard', KEYS[1]) end
return redis.call('llen', KEYS[1])
"""


def test_keda_may_count_a_queue_and_nothing_else(waiting_room: Any, secret: dict[str, str]) -> None:
    functions = waiting_room("generator", secret["redis-password"])
    functions.zadd("generator:{default}:queue", {"job": 1})
    keda = waiting_room("keda", secret["keda-password"])
    assert keda.eval(KEDA_COUNTS, 1, "generator:{default}:queue") == 1
    assert keda.eval(KEDA_COUNTS, 1, "generator:{empty}:queue") == 0
    for forbidden in (
        lambda: keda.zpopmin("generator:{default}:queue"),
        lambda: keda.eval("return redis.call('zrem', KEYS[1], 'job')", 1, "generator:{default}:queue"),
        lambda: keda.zcard("somebody:else"),
        keda.flushall,
    ):
        with pytest.raises(redis.ResponseError):
            forbidden()


def test_the_functions_have_their_own_keys_and_no_say_over_the_server(
    waiting_room: Any, secret: dict[str, str]
) -> None:
    from functions.adapters import queue
    from functions.config import config

    functions = waiting_room("generator", secret["redis-password"])
    put, claim = (functions.register_script(queue.script(name).text) for name in ("put", "claim"))
    keys, limits = [queue.key("mine", "queue")], config().limits("mine")
    put(keys=keys, args=[limits, "job", 1, "USER", "sd15", "u-1", 0])
    assert claim(keys=keys, args=[limits, "worker", ""]) == "job"
    functions.xadd(queue.DEAD, {"job_id": "x"}, maxlen=10)
    functions.expire(queue.DEAD, 100)
    with pytest.raises(redis.ResponseError):
        functions.set("not-mine", 1)
    with pytest.raises(redis.ResponseError):
        functions.config_get("*")
    with pytest.raises(redis.AuthenticationError):
        functions.execute_command("AUTH", "default", "")


class Cluster(BaseHTTPRequestHandler):
    """As much of a Kubernetes API as `lookup` asks: there is one Secret."""

    data: dict[str, str]

    def do_GET(self) -> None:
        secrets = {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get"]}
        known: dict[str, Any] = {
            "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [secrets]},
            f"/api/v1/namespaces/generator/secrets/{SECRET}": {
                "kind": "Secret",
                "apiVersion": "v1",
                "metadata": {"name": SECRET, "namespace": "generator"},
                "data": {name: b64encode(value.encode()).decode() for name, value in self.data.items()},
            },
        }
        body = known.get(urlsplit(self.path).path, {"kind": "Status", "status": "Failure", "code": 404})
        self.send_response(200 if body["kind" if "kind" in body else "major"] != "Status" else 404)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_an_upgrade_keeps_every_secret_and_adds_what_is_new(secret: dict[str, str], tmp_path: Path) -> None:
    before = {name: value for name, value in secret.items() if name != "service-secrets"}  # of an earlier release
    handler = type("ThisCluster", (Cluster,), {"data": before})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as cluster:
        threading.Thread(target=cluster.serve_forever, daemon=True).start()
        done = subprocess.run(
            [
                *(program("helm"), "template", "generator", str(CHART), "--namespace", "generator"),
                *("--is-upgrade", "--dry-run=server", "--kube-version", "1.34.0", "--values", str(TRIAL)),
                *("--kube-apiserver", f"http://127.0.0.1:{cluster.server_port}"),
            ],
            env={"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    after = of_kind([one for one in yaml.safe_load_all(done.stdout) if one], "Secret")[SECRET]["stringData"]
    assert {name: after[name] for name in before} == before
    assert len(after["service-secrets"]) == 40


def test_the_secret_and_the_volumes_outlive_the_release(secret: dict[str, str]) -> None:
    found = rendered(TRIAL)
    assert of_kind(found, "Secret")[SECRET]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    servers = of_kind(found, "StatefulSet")
    assert set(servers) == {"generator-postgres", "generator-valkey", "generator-s3"}
    assert all(one["spec"]["volumeClaimTemplates"] for one in servers.values())
    assert all(one["spec"]["replicas"] == 1 for one in servers.values())


def test_production_brings_no_server_and_no_secret() -> None:
    found = rendered(CHART / "ci" / "production-kafka-external-values.yaml")
    assert not of_kind(found, "Secret", "StatefulSet")
