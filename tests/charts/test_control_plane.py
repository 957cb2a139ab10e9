"""The chart in a real control plane: what an API server takes, what an upgrade may change, what KEDA makes of it.

Needs what `make cluster-tools` builds, and is skipped without; `control_plane.py` says what is real here, and what not.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import control_plane
import pytest
import redis
import yaml
from chart import CHART, CI, ROOT
from control_plane import Cluster
from kubelet import Kubelet
from live import Stack, bare_environment, eventually

from functions.adapters import measures, postgres
from functions.domain.job import State
from functions.stack import state as folders
from functions.stack.house import House

pytestmark = pytest.mark.timeout(600)
NAMESPACE = "generator"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SCALED_JOB = f"/apis/keda.sh/v1alpha1/namespaces/{NAMESPACE}/scaledjobs/generator-default"
#: Pods that do not meet the strictest standard are refused; helm passes on what the server warns of.
STRICT = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
PATIENCE_S = 180  # as long as a busy machine may need; nothing waits for it to pass
OPERATOR = ("--set", "operator.enabled=true", "--set", "operator.gpuNodes.enabled=true")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="generator-cluster-") as folder,
        folders.State(Path(folder)) as state,
        control_plane.running(state) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A house without an autoscaler of its own: whoever paints here was started by KEDA."""
    with tempfile.TemporaryDirectory(prefix="generator-test-") as folder:
        Path(folder).chmod(0o711)  # under root, Postgres runs as another user
        with House(Path(folder), gpus=0, step_ms=15, environ=bare_environment()) as house:
            yield Stack(house)


@pytest.fixture(scope="module")
def kubelet(cluster: Cluster, own: Stack) -> Iterator[Kubelet]:
    """The nodes at work: what the chart says, but for the addresses of this machine."""
    names = ("DATABASE_URL", "S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "K_SINK", "COMFYUI_URL")
    given = {name: own.house.env[name] for name in (*names, "COMFYUI_MODELS_DIR")}
    with Kubelet(cluster, given=given) as kubelet:
        yield kubelet


def done(cluster: Cluster, *arguments: str) -> str:
    """What helm says; fails with what it complains of."""
    said = cluster.helm(*arguments)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "warning" not in said.stderr.lower(), said.stderr
    return said.stdout


def kept(cluster: Cluster, namespace: str) -> set[str]:
    """What somebody put into a namespace, but for what Kubernetes puts into each."""
    found = set()
    for group, kinds in (
        ("/api/v1", ("secrets", "configmaps", "services", "serviceaccounts", "persistentvolumeclaims")),
        ("/apis/apps/v1", ("deployments", "statefulsets")),
        ("/apis/batch/v1", ("jobs",)),
        ("/apis/networking.k8s.io/v1", ("networkpolicies",)),
        ("/apis/rbac.authorization.k8s.io/v1", ("roles", "rolebindings")),
        ("/apis/policy/v1", ("poddisruptionbudgets",)),
        ("/apis/serving.knative.dev/v1", ("services",)),
        ("/apis/eventing.knative.dev/v1", ("brokers", "triggers")),
        ("/apis/sources.knative.dev/v1", ("pingsources",)),
        ("/apis/keda.sh/v1alpha1", ("scaledjobs", "triggerauthentications")),
        ("/apis/monitoring.coreos.com/v1", ("servicemonitors", "prometheusrules")),
    ):
        for kind in kinds:
            for one in cluster.items(f"{group}/namespaces/{namespace}/{kind}"):
                found.add(f"{kind}/{one['metadata']['name']}")
    return found - {"serviceaccounts/default", "configmaps/kube-root-ca.crt"}


@pytest.mark.parametrize("values", CI, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_every_shape_is_taken_as_it_is_upgraded_rolled_back_and_taken_away_again(
    cluster: Cluster, values: Path
) -> None:
    namespace = values.name.removesuffix("-values.yaml")
    where = ("--namespace", namespace)
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace, "labels": STRICT}})
    more = ("--set", "restartedAt=now", "--set", "image.tag=0.2.0", "--set", "monitoring.dashboard.enabled=true")
    more += ("--set", "monitoring.prometheusRule.enabled=true", *OPERATOR)
    done(cluster, "install", "generator", str(CHART), *where, "-f", str(values), "--no-hooks")
    first = kept(cluster, namespace)
    done(cluster, "upgrade", "generator", str(CHART), *where, "-f", str(values), "--no-hooks", *more)
    assert kept(cluster, namespace) > first
    done(cluster, "rollback", "generator", "1", *where, "--no-hooks")
    history = {one for one in kept(cluster, namespace) if one.startswith("secrets/sh.helm.release")}
    assert kept(cluster, namespace) - history == first - history
    done(cluster, "uninstall", "generator", *where, "--no-hooks", "--wait")
    roles = cluster.items("/apis/rbac.authorization.k8s.io/v1/clusterroles")
    assert not [one for one in roles if one["metadata"]["name"].startswith(namespace)]
    stays = {one.partition("/")[0] for one in kept(cluster, namespace)}
    trial = yaml.safe_load(values.read_text()).get("trial", {}).get("enabled", False)
    assert stays <= ({"secrets", "persistentvolumeclaims"} if trial else {"persistentvolumeclaims"})
    assert ("secrets/generator-trial" in kept(cluster, namespace)) == trial
    words = trial and cluster.call("GET", f"/api/v1/namespaces/{namespace}/secrets/generator-trial")["data"]
    done(cluster, "install", "generator", str(CHART), *where, "-f", str(values), "--no-hooks")  # takes on what stayed
    if trial:
        assert cluster.call("GET", f"/api/v1/namespaces/{namespace}/secrets/generator-trial")["data"] == words
    done(cluster, "uninstall", "generator", *where, "--no-hooks", "--wait")


@pytest.fixture(scope="module")
def release(cluster: Cluster, own: Stack, kubelet: Kubelet) -> Iterator[str]:
    """The release `generator`, with the house's servers as servers of one's own; gives helm's word of it."""
    address = own.house.env["REDIS_URL"].rpartition("@")[2].partition("/")[0]
    with redis.Redis.from_url(own.house.env["REDIS_URL"]) as client:
        client.execute_command(
            *("ACL", "SETUSER", "keda", "on", ">counting", "~generator:*"),
            *("-@all", "+ping", "+hello", "+client", "+select", "+eval", "+type", "+zcard", "+llen"),
        )
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": STRICT}})
    urls = {"url": own.house.env["DATABASE_URL"], "migrations-url": own.house.env["MIGRATIONS_DATABASE_URL"]}
    for name, words in {
        "postgres": urls,
        "redis": {"url": own.house.env["REDIS_URL"]},
        "redis-keda": {"username": "keda", "password": "counting"},
        "s3": {"access-key-id": "given", "secret-access-key": "given"},
        "signing": {"service-secrets": own.house.env["SERVICE_SECRETS"]},
    }.items():
        secret = {"metadata": {"name": f"generator-{name}"}, "stringData": words}
        cluster.call("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", secret)
    yield done(cluster, "install", "generator", str(CHART), *told(address), "--wait", "--timeout", "2m")
    done(cluster, "uninstall", "generator", "--namespace", NAMESPACE, "--wait", "--timeout", "1m")


def told(address: str, *more: str) -> tuple[str, ...]:
    """The arguments that choose this release."""
    values = {
        **{f"{part}.existingSecret": f"generator-{part}" for part in ("redis", "s3", "signing")},
        "database.existingSecret": "generator-postgres",
        "redis.keda.existingSecret": "generator-redis-keda",
        "redis.address": address,
        "poolDefaults.pollingIntervalSeconds": "1",
        "poolDefaults.maxReplicas": "2",
        "settings.LEASE_S": "6",
        "settings.HEARTBEAT_S": "2",
    }
    sets = tuple(part for name, value in values.items() for part in ("--set", f"{name}={value}"))
    return ("--namespace", NAMESPACE, *sets, *OPERATOR, *more)


def runners(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.items(JOBS, labelSelector="visionsuit.dev/gpu-pool")


def names(found: list[dict[str, Any]]) -> set[str]:
    return {one["metadata"]["name"] for one in found}


def finished(cluster: Cluster) -> bool:
    return all(one["status"].get("completionTime") or one["status"].get("failed") for one in runners(cluster))


def test_an_install_migrates_and_fills_the_catalogue_by_jobs_that_are_gone_when_they_are_done(
    cluster: Cluster, release: str, kubelet: Kubelet
) -> None:
    assert 'is installed as "generator" in generator' in release
    ended = {name.rpartition("-")[0]: code for name, code in kubelet.ended.items()}
    assert (ended["generator-migrate"], ended["generator-catalogue"]) == (0, 0)
    assert not [one for one in cluster.items(JOBS) if one["metadata"]["name"].startswith("generator-")]


def test_keda_starts_a_runner_for_each_job_that_waits_and_not_one_more(
    cluster: Cluster, release: str, own: Stack
) -> None:
    assert runners(cluster) == []
    own.grant("heron", 100)
    asked = [own.speaking_for("heron").ask(own.request()) for _ in range(3)]
    for job_id in asked:
        own.wait(job_id, State.AWAITING_REVIEW, within_s=PATIENCE_S)
    eventually(lambda: finished(cluster), within_s=PATIENCE_S)
    assert len(runners(cluster)) == 3
    pods = cluster.items(PODS, labelSelector="app.kubernetes.io/component=render")
    assert {job.worker for job in map(own.job, asked) if job} <= names(pods)


def test_a_runner_tells_of_the_node_that_it_was_on(cluster: Cluster, release: str, own: Stack) -> None:
    own.grant("crane", 100)
    own.behave(gpu={"uuid": "GPU-1", "temperature_c": 93})
    own.wait(own.speaking_for("crane").ask(own.request()), State.AWAITING_REVIEW, within_s=PATIENCE_S)
    own.behave(clear=True)
    with postgres.transaction() as tx:
        [gpu] = measures.gpus(tx)
    assert (gpu.node, gpu.gpu, gpu.gpu_temperature_c) == ("gpu-1", "GPU-1", 93)


def test_the_scheduler_puts_runners_on_the_pool_s_nodes_alone(cluster: Cluster, release: str) -> None:
    found = cluster.items(PODS, labelSelector="app.kubernetes.io/component=render")
    assert {one["spec"]["nodeName"] for one in found} == {"gpu-1"}
    [operator] = cluster.items(PODS, labelSelector="app.kubernetes.io/component=operator")
    assert operator["spec"]["nodeName"] == "web-1"


def test_a_paused_pool_starts_nothing_and_goes_on_where_it_was(cluster: Cluster, release: str, own: Stack) -> None:
    before = names(runners(cluster))

    def pause(value: str | None) -> None:
        cluster.call("PATCH", SCALED_JOB, {"metadata": {"annotations": {"autoscaling.keda.sh/paused": value}}})

    def condition(kind: str) -> Any:
        found = cluster.call("GET", SCALED_JOB)["status"]["conditions"]
        return {one["type"]: one["status"] for one in found}.get(kind)

    pause("true")
    eventually(lambda: condition("Paused") == "True")
    own.grant("ibis", 100)
    job_id = own.speaking_for("ibis").ask(own.request())
    own.wait(job_id, State.QUEUED)
    with pytest.raises(pytest.fail.Exception):
        eventually(lambda: names(runners(cluster)) - before, within_s=4)
    pause(None)
    own.wait(job_id, State.AWAITING_REVIEW, within_s=PATIENCE_S)
    assert len(names(runners(cluster)) - before) == 1  # KEDA keeps the last few that succeeded


def vsgen(kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**bare_environment(), "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "functions.ctl", *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def slow(own: Stack) -> Iterator[None]:
    """A ComfyUI that takes a second for a step, so that a hundred outlast whatever is done meanwhile."""
    own.behave(step_ms=1000)
    yield
    own.behave(clear=True, step_ms=15)


@pytest.fixture
def operator(cluster: Cluster, release: str) -> Iterator[Path]:
    """A kubeconfig with the token of the operator's account; its node is taken back into service at the end."""
    kubeconfig = cluster.kubeconfig_of("operator", cluster.token_of(NAMESPACE, "generator-operator"))
    yield kubeconfig
    vsgen(kubeconfig, "gpu", "uncordon", "gpu-1")


@pytest.mark.usefixtures("slow")
def test_a_drained_runner_s_job_goes_on_in_the_same_pool_at_no_attempt(
    cluster: Cluster, operator: Path, own: Stack
) -> None:
    own.grant("egret", 100)
    job_id = own.speaking_for("egret").ask(own.request(steps=100))
    own.wait(job_id, State.IN_PROGRESS, within_s=PATIENCE_S)
    cordoned = vsgen(operator, "gpu", "cordon", "gpu-1", "--reason", "fan is loud", "--drain")
    assert cordoned.returncode == 0, cordoned.stderr
    assert "gpu-1 is cordoned\nevicted generator/generator-default-" in cordoned.stdout
    assert "cordoned  fan is loud" in vsgen(operator, "gpu", "list").stdout
    own.behave(clear=True, step_ms=15)
    own.wait(job_id, State.QUEUED, within_s=PATIENCE_S)
    pending = eventually(
        lambda: [one for one in cluster.items(PODS) if not one["spec"].get("nodeName")], within_s=PATIENCE_S
    )
    # The Job makes up for its pod. KEDA may start one more when it looks after the job went back and before the pod's
    # end was told: that runner finds nothing and is gone.
    assert len(pending) in (1, 2)
    assert vsgen(operator, "gpu", "uncordon", "gpu-1").returncode == 0
    own.wait(job_id, State.AWAITING_REVIEW, within_s=PATIENCE_S)
    assert [attempt for _, attempt in own.moves(job_id)] == [1] * len(own.moves(job_id))
    eventually(lambda: finished(cluster), within_s=PATIENCE_S)
    assert len([one for one in runners(cluster) if one["status"].get("failed")]) == 0


def may(cluster: Cluster, account: str, verb: str, resource: str, *, namespace: str = NAMESPACE) -> bool:
    name, _, sub = resource.partition("/")
    asked = {"verb": verb, "resource": name, "subresource": sub, "namespace": namespace}
    body = {"spec": {"user": f"system:serviceaccount:{NAMESPACE}:{account}", "resourceAttributes": asked}}
    return bool(cluster.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)["status"]["allowed"])


def test_the_operator_may_see_to_gpu_nodes_and_nothing_else(cluster: Cluster, release: str) -> None:
    def operator(verb: str, resource: str, **where: str) -> bool:
        return may(cluster, "generator-operator", verb, resource, **where)

    assert operator("patch", "nodes")
    assert operator("list", "pods", namespace="")
    assert operator("create", "pods/eviction")
    assert not operator("create", "pods/eviction", namespace="kube-system")
    for verb, resource in (
        ("get", "secrets"),
        ("delete", "pods"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("delete", "nodes"),
    ):
        assert not operator(verb, resource), f"{verb} {resource}"


def test_no_other_account_of_the_release_may_do_anything(cluster: Cluster, release: str) -> None:
    accounts = [one["metadata"]["name"] for one in cluster.items(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts")]
    others = [name for name in accounts if name != "generator-operator"]
    assert len(others) > 10
    asked = [("get", "secrets"), ("list", "pods"), ("patch", "nodes"), ("create", "pods"), ("get", "configmaps")]
    assert not [(name, *one) for name in others for one in asked if may(cluster, name, *one)]


def test_a_migration_that_fails_stops_an_upgrade_before_anything_has_changed(cluster: Cluster, release: str) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/generator-postgres"
    cluster.call("PATCH", path, {"stringData": {"wrong": "postgresql+pg8000://nobody:x@127.0.0.1:1/generator"}})
    api = f"/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}/services/generator-api"
    before = cluster.call("GET", api)["spec"]
    address = cluster.call("GET", SCALED_JOB)["spec"]["triggers"][0]["metadata"]["address"]
    wrong = ("--set", "database.migrationsKey=wrong", "--set", "migrations.backoffLimit=1", "--set", "image.tag=0.2.0")
    refused = cluster.helm("upgrade", "generator", str(CHART), *told(address, *wrong), "--timeout", "1m")
    assert refused.returncode == 1
    assert "job generator-migrate failed: BackoffLimitExceeded" in refused.stderr
    assert cluster.call("GET", api)["spec"] == before
    assert "generator-migrate" in names(cluster.items(JOBS))
    done(cluster, "upgrade", "generator", str(CHART), *told(address, "--set", "image.tag=0.2.0"), "--timeout", "2m")
    assert cluster.call("GET", api)["spec"] != before
    assert "generator-migrate" not in names(cluster.items(JOBS))


@pytest.mark.usefixtures("slow")
def test_an_upgrade_leaves_running_renders_alone(cluster: Cluster, release: str, own: Stack) -> None:
    own.grant("stork", 100)
    job_id = own.speaking_for("stork").ask(own.request(steps=100))
    own.wait(job_id, State.IN_PROGRESS, within_s=PATIENCE_S)
    [running] = [one for one in runners(cluster) if not one["status"].get("completionTime")]
    address = cluster.call("GET", SCALED_JOB)["spec"]["triggers"][0]["metadata"]["address"]
    more = ("--set", "comfyuiImage.tag=0.2.0", "--set", "poolDefaults.shmSize=3Gi")
    done(cluster, "upgrade", "generator", str(CHART), *told(address, *more), "--wait", "--timeout", "2m")
    own.behave(clear=True, step_ms=15)
    own.wait(job_id, State.AWAITING_REVIEW, within_s=PATIENCE_S)
    eventually(lambda: finished(cluster), within_s=PATIENCE_S)
    after = cluster.call("GET", f"{JOBS}/{running['metadata']['name']}")
    assert after["status"].get("succeeded") == 1
    assert len(own.moves(job_id)) == len(set(own.moves(job_id)))
