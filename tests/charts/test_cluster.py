"""What `vsgen gpu` is allowed in a cluster; and, where there is a cluster, the chart in it.

The second half runs only with KUBECONFIG set, in a namespace of its own that it removes again.
"""

import os
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import core
import pytest
import requests
from adapters.test_nodes import Cluster, kubeconfig, vsgen
from chart import CHART, component, external, of_kind, pod, program, rendered
from live import Stack, eventually
from stack.crd import manifests

from functions.adapters import nodes
from functions.config import config

TRIAL = CHART / "ci" / "trial-values.yaml"
RIGHTS = {"operator__enabled": "true", "operator__gpuNodes__enabled": "true"}
Allowed = set[tuple[str, str, str, bool]]
#: How an HTTP method on a path becomes a verb on a resource (kubernetes.io: Authorization Overview).
VERBS = {"GET": "get", "PATCH": "patch", "POST": "create"}


class Watched(Cluster):
    """The cluster of the adapter's tests, which writes down what it was asked: group, resource, verb, one namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Allowed = set()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        core_, _, *parts = path.strip("/").split("/")
        assert core_ == "api"
        namespaced = parts[0] == "namespaces"
        resource, *rest = parts[2:] if namespaced else parts
        name, *sub = rest or ("",)
        verb = VERBS[method] if name else "list"
        self.asked.add(("", "/".join([resource, *sub]), verb, namespaced))
        return super().answer(method, path, query, body)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Allowed]:
    """All that `vsgen gpu` asks of a cluster."""
    cluster = Watched()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig(tmp_path_factory.mktemp("cluster") / "kubeconfig", cluster.url)))
        config.cache_clear()
        nodes._api.cache_clear()
        cluster.runs("render-1", on="gpu-1")
        for command in (["list"], ["cordon", "gpu-1", "--reason", "why", "--drain"], ["uncordon", "gpu-1"]):
            assert vsgen(*command).exit_code == 0
        assert cluster.evicted == ["render-1"]
    config.cache_clear()
    nodes._api.cache_clear()
    cluster.close()
    yield cluster.asked


def allowed(found: list[dict[str, Any]]) -> Allowed:
    """What the roles among these manifests allow; True for a verb that is allowed in one namespace only."""
    return {
        (group, resource, verb, one["kind"] == "Role")
        for one in of_kind(found, "Role", "ClusterRole").values()
        for rule in one["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_operator_s_pod_may_do_what_vsgen_does_and_nothing_more(asked: Allowed) -> None:
    assert allowed(external(**RIGHTS)) == asked


def test_an_operator_s_own_account_may_do_the_same(asked: Allowed) -> None:
    found = manifests("k8s/rbac.yaml")
    assert allowed(found) == asked
    assert [core.errors(one) for one in found] == [[], []]
    assert of_kind(found, "Role")["generator-runners"]["metadata"]["namespace"] == "generator"


def test_rights_are_bound_to_the_operator_s_account_alone_and_only_its_pod_has_a_token() -> None:
    found = external(**RIGHTS)
    bindings = of_kind(found, "RoleBinding", "ClusterRoleBinding").values()
    assert {one["roleRef"]["name"] for one in bindings} == {"generator-generator-gpu-nodes", "generator-runners"}
    account = {"kind": "ServiceAccount", "name": "generator-operator", "namespace": "generator"}
    assert all(one["subjects"] == [account] for one in bindings)
    assert "generator-operator" in of_kind(found, "ServiceAccount")
    assert [core.errors(one) for one in bindings] == [[], []]
    tokens = [component(one) for one in found if pod(one) and (pod(one) or {})["automountServiceAccountToken"]]
    assert tokens == ["operator"]


def test_the_operator_s_pod_reaches_the_cluster_s_api_and_no_other_pod_does() -> None:
    policy = of_kind(external(**RIGHTS), "NetworkPolicy")["generator-to-kubernetes"]["spec"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
    assert [one["port"] for one in policy["egress"][0]["ports"]] == [443, 6443]


@pytest.mark.parametrize("off", RIGHTS)
def test_nothing_is_allowed_unless_both_are_switched_on(off: str) -> None:
    found = external(**RIGHTS | {off: "false"})
    assert allowed(found) == set()
    assert "generator-to-kubernetes" not in of_kind(found, "NetworkPolicy")
    assert not any((pod(one) or {}).get("automountServiceAccountToken") for one in found)


def run(*command: str) -> str:
    done = subprocess.run([program(command[0]), *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def api_pods(release: str) -> str:
    """The label by which the pods of the api are found: Knative gives each the name of its Service."""
    return f"serving.knative.dev/service={release}-api"


def forwarding(namespace: str, pod_name: str, port: int) -> list[str]:
    """The command that makes the api's own port of a pod ours."""
    return ["kubectl", "port-forward", "--namespace", namespace, pod_name, f"{port}:8080", "--address", "127.0.0.1"]


def test_the_api_is_asked_for_by_the_service_and_at_the_port_that_it_has() -> None:
    api = of_kind(rendered(TRIAL), "Service")["generator-api"]
    assert api_pods("generator") == f"serving.knative.dev/service={api['metadata']['name']}"
    [function] = (pod(api) or {})["containers"]
    assert forwarding("n", "pod/p", 1)[5] == f"1:{function['ports'][0]['containerPort']}"


def a_picture_s_way(api: str) -> None:
    """Ask the api for a picture, without a token; wait for it, keep it, and see it handed over."""

    def job() -> Any:
        return requests.get(f"{api}/v1/jobs/{asked['id']}", timeout=10).json()

    def reached(state: str) -> Callable[[], bool]:
        return lambda: job()["state"] == state

    [model, *_] = requests.get(f"{api}/v1/options", timeout=30).json()["models"]
    wish = {"prompt": "a heron at dawn", "model": model["id"], "width": 64, "height": 64, "steps": 4}
    answer = requests.post(f"{api}/v1/jobs", json=wish, timeout=30)
    assert answer.status_code == 202, answer.text
    asked = answer.json()
    eventually(reached("awaiting_review"), within_s=300)
    [picture] = job()["artifacts"]
    content = requests.get(f"{api}/v1/artifacts/{picture['id']}/content", timeout=30)
    assert content.headers["content-type"] == "image/png"
    decision = {"artifact_id": picture["id"], "decision": "accept", "collection_id": "herons"}
    answer = requests.post(f"{api}/v1/reviews", json={"decisions": [decision]}, timeout=30)
    assert [one["status"] for one in answer.json()["results"]] == ["accepted"]
    eventually(reached("completed"), within_s=60)


def test_the_story_that_a_cluster_is_asked_for_is_true_of_the_local_stack(stack: Stack) -> None:
    a_picture_s_way(stack.api_url)


@contextmanager
def forwarded(namespace: str) -> Iterator[str]:
    """The api's address on this machine, once it answers."""
    found = run("kubectl", "get", "pod", "--namespace", namespace, "-o", "name", "-l", api_pods("generator"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, *arguments = forwarding(namespace, found.split()[0], port)
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return requests.get(f"{url}/readyz", timeout=10).ok
        except requests.ConnectionError:
            return False

    with subprocess.Popen([program("kubectl"), *arguments], stdout=subprocess.DEVNULL) as tunnel:
        try:
            eventually(ready, within_s=120)
            yield url
        finally:
            tunnel.terminate()


@pytest.fixture
def trial() -> Iterator[str]:
    """The chart, installed for a trial in a namespace of its own; gives the namespace."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: KUBECONFIG is not set")
    namespace = f"generator-{uuid.uuid4().hex[:8]}"
    where = ("--namespace", namespace)
    try:
        install = ("install", "generator", str(CHART), *where, "--create-namespace", "--values", str(TRIAL))
        run("helm", *install, "--wait", "--wait-for-jobs", "--timeout", "10m")
        run("kubectl", "wait", *where, "--for=condition=Ready", "ksvc", "--all", "--timeout=5m")
        yield namespace
    finally:
        # The release first: KEDA's finalizers want their operator, and a namespace that goes would wait for them.
        subprocess.run([program("helm"), "uninstall", "generator", *where, "--wait", "--timeout", "5m"], check=False)
        run("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


@pytest.mark.timeout(1800)
def test_a_picture_goes_all_its_way_in_a_cluster(trial: str) -> None:
    run("helm", "test", "generator", "--namespace", trial)
    with forwarded(trial) as api:
        a_picture_s_way(api)
