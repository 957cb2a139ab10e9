"""Nodes of the GPU pools, in a cluster that is a small HTTP server: what is asked of it, and what of its answers."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from functions.adapters import nodes
from functions.config import config
from functions.ctl import app
from functions.domain.errors import Rejected, Unavailable

POOL = "visionsuit.dev/gpu-pool"


def a_node(name: str, *, pool: str | None = "v24", ready: str = "True") -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name} | ({POOL: pool} if pool else {})
    return {
        "metadata": {"name": name, "labels": labels, "annotations": {"somebody/elses": "note"}},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


class Cluster:
    """The part of the Kubernetes API that we use. A merge patch is applied as the API server would; `evictions` are the
    statuses that pods are to be evicted with."""

    def __init__(self) -> None:
        self.nodes = {one["metadata"]["name"]: one for one in (a_node("gpu-1"), a_node("gpu-2", ready="False"))}
        self.nodes["web-1"] = a_node("web-1", pool=None)
        self.pods: list[dict[str, Any]] = []
        self.evictions: dict[str, int] = {}
        self.evicted: list[str] = []
        self.refuses = 0
        self.token = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def runs(self, name: str, *, on: str, component: str = "render", phase: str = "Running") -> None:
        labels = {"app.kubernetes.io/component": component, POOL: "v24"}
        self.pods.append(
            {
                "metadata": {"name": name, "namespace": "generator", "labels": labels},
                "spec": {"nodeName": on, "containers": [{"name": "runner"}]},
                "status": {"phase": phase},
            }
        )

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if self.refuses:
            return self.refuses, {"kind": "Status", "message": "no"}
        match method, path.strip("/").split("/")[2:]:
            case "GET", ["nodes"]:
                assert query["labelSelector"] == POOL
                found = [one for one in self.nodes.values() if POOL in one["metadata"]["labels"]]
                return 200, {"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": found}
            case "GET", ["nodes", name]:
                return (200, self.nodes[name]) if name in self.nodes else (404, {"kind": "Status"})
            case "PATCH", ["nodes", name]:
                _merge(self.nodes[name], body)
                return 200, self.nodes[name]
            case "GET", ["pods"]:
                assert query["labelSelector"] == f"app.kubernetes.io/component=render,{POOL}"
                on = query["fieldSelector"].removeprefix("spec.nodeName=")
                found = [
                    one
                    for one in self.pods
                    if one["spec"]["nodeName"] == on
                    and one["metadata"]["labels"]["app.kubernetes.io/component"] == "render"
                ]
                return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found}
            case "POST", ["namespaces", "generator", "pods", name, "eviction"]:
                assert (body["kind"], body["metadata"]["name"]) == ("Eviction", name)
                status = self.evictions.get(name, 201)
                if status == 201:
                    self.evicted.append(name)
                return status, {"kind": "Status", "metadata": {}}
        return 501, {}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    for key, new in change.items():
        if isinstance(new, dict):
            _merge(into.setdefault(key, {}), new)
        elif new is None:
            into.pop(key, None)
        else:
            into[key] = new


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            asked = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(asked.query).items()}
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            if self.command == "PATCH":
                assert "merge-patch" in self.headers["content-type"]
            cluster.token = self.headers.get("authorization", "")
            status, answer = cluster.answer(self.command, asked.path, query, body)
            said = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_PATCH = do_POST = _serve

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def kubeconfig(path: Path, url: str) -> Path:
    """A kubeconfig file for a cluster at this address."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "operators-own"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return path


@pytest.fixture
def speaks_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let this process speak to the cluster at an address."""

    def point(url: str) -> None:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", url)))
        config.cache_clear()
        nodes._api.cache_clear()

    yield point
    monkeypatch.undo()
    config.cache_clear()
    nodes._api.cache_clear()


@pytest.fixture
def cluster(speaks_to: Any) -> Iterator[Cluster]:
    cluster = Cluster()
    speaks_to(cluster.url)
    yield cluster
    cluster.close()


def vsgen(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["gpu", *arguments])


def test_a_cordoned_node_takes_no_new_runner_and_says_why(cluster: Cluster) -> None:
    said = vsgen("cordon", "gpu-1", "--reason", "fan is loud", "--json")
    assert said.exit_code == 0
    assert cluster.nodes["gpu-1"]["spec"]["unschedulable"] is True
    assert cluster.nodes["gpu-1"]["metadata"]["annotations"][nodes.REASON] == "fan is loud"
    assert cluster.nodes["gpu-1"]["metadata"]["annotations"]["somebody/elses"] == "note"
    told = json.loads(said.stdout)
    assert (told["name"], told["cordoned"], told["reason"], told["drained"]) == ("gpu-1", True, "fan is loud", None)
    assert cluster.token == "Bearer operators-own"


def test_cordoning_alone_evicts_nobody(cluster: Cluster) -> None:
    cluster.runs("render-1", on="gpu-1")
    assert vsgen("cordon", "gpu-1").exit_code == 0
    assert cluster.evicted == []


def test_a_drain_evicts_the_runners_of_that_node_and_nothing_else(cluster: Cluster) -> None:
    cluster.runs("render-1", on="gpu-1")
    cluster.runs("render-2", on="gpu-2")
    cluster.runs("done", on="gpu-1", phase="Succeeded")
    cluster.runs("exporter", on="gpu-1", component="metrics")
    said = vsgen("cordon", "gpu-1", "--drain", "--json")
    assert said.exit_code == 0
    assert cluster.evicted == ["render-1"]
    assert json.loads(said.stdout)["drained"] == {"evicted": ["generator/render-1"], "kept": {}}


def test_a_runner_that_a_disruption_budget_holds_stays_and_the_exit_code_says_so(cluster: Cluster) -> None:
    cluster.runs("held", on="gpu-1")
    cluster.runs("free", on="gpu-1")
    cluster.runs("gone", on="gpu-1")
    cluster.evictions = {"held": 429, "gone": 404}
    said = vsgen("cordon", "gpu-1", "--drain")
    assert said.exit_code == 1
    assert cluster.evicted == ["free"]
    assert "generator/held stays: a disruption budget holds it" in said.stdout
    assert "gone" not in said.stdout


def test_an_uncordoned_node_takes_runners_again_and_its_reason_is_gone(cluster: Cluster) -> None:
    vsgen("cordon", "gpu-1", "--reason", "fan is loud")
    assert vsgen("uncordon", "gpu-1").exit_code == 0
    assert "unschedulable" not in cluster.nodes["gpu-1"]["spec"]
    assert cluster.nodes["gpu-1"]["metadata"]["annotations"] == {"somebody/elses": "note"}


def test_the_list_has_every_node_of_a_pool_with_its_health(cluster: Cluster) -> None:
    vsgen("cordon", "gpu-1", "--reason", "fan is loud")
    found = json.loads(vsgen("list", "--json").stdout)["nodes"]
    assert [(one["name"], one["pool"], one["ready"], one["cordoned"], one["reason"]) for one in found] == [
        ("gpu-1", "v24", True, True, "fan is loud"),
        ("gpu-2", "v24", False, False, ""),
    ]
    assert "fan is loud" in vsgen("list").stdout


def test_a_node_outside_the_gpu_pools_is_none_of_our_business(cluster: Cluster) -> None:
    with pytest.raises(Rejected, match=f"web-1 is in no GPU pool: it lacks the label {POOL}"):
        nodes.cordon("web-1", reason="")
    assert cluster.nodes["web-1"]["spec"] == {}


def test_a_node_that_is_not_there_is_named(cluster: Cluster) -> None:
    with pytest.raises(Rejected, match="there is no node gpu-9"):
        nodes.uncordon("gpu-9")


def test_an_account_that_may_not_is_told_what_it_may_not(cluster: Cluster) -> None:
    cluster.refuses = 403
    with pytest.raises(Rejected, match="does not let this account list nodes"):
        nodes.listing()


def test_a_cluster_in_trouble_is_worth_another_try(cluster: Cluster) -> None:
    cluster.refuses = 500
    with pytest.raises(Unavailable, match="answered 500"):
        nodes.listing()


def test_a_cluster_that_is_not_there_is_named(speaks_to: Any) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        speaks_to(f"http://127.0.0.1:{bound.getsockname()[1]}")
        with pytest.raises(Unavailable, match="the cluster cannot be reached"):
            nodes.listing()


def test_without_a_cluster_the_command_says_what_to_set(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "functions.ctl", "gpu", "list"]
    nowhere = {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none"), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(asked, env=nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "set KUBECONFIG to a kubeconfig file" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_runners_that_a_drain_looks_for_are_those_that_keda_starts() -> None:
    manifests = yaml.safe_load_all((Path(__file__).parents[2] / "keda" / "scaledjob.yaml").read_text())
    [job] = [one for one in manifests if one["kind"] == "ScaledJob"]
    labels = job["spec"]["jobTargetRef"]["template"]["metadata"]["labels"]
    component, pool = nodes.RUNNERS.split(",")
    assert component == f"app.kubernetes.io/component={labels['app.kubernetes.io/component']}"
    assert pool in labels
