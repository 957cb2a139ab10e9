"""The chart, the manifests of the local stack and the code say the same."""

import json
from typing import Any

import pytest
import yaml
from chart import CHART, ROOT, containers, environment, external, of_kind, pod
from stack.crd import manifests

from functions.adapters import queue
from functions.config import SETTINGS, read
from functions.domain.event import BY_TYPE
from functions.serve import VERBS

FACTS: dict[str, Any] = yaml.safe_load((CHART / "files" / "functions.yaml").read_text())
#: Settings that the chart does not pass on: for one's own machine, from the pod itself, or of whoever types.
NOT_IN_A_CLUSTER = {"KUBECONFIG", "WORKER_ID", "ADMIN_TOKEN", "OPERATOR", "WAIT_S"}


def specs(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {name: one["spec"] for name, one in of_kind(found, kind).items()}


def test_each_function_hears_in_a_cluster_what_the_code_says_it_must() -> None:
    hears: dict[str, set[str]] = {}
    for event in BY_TYPE.values():
        if event.heard_by:
            hears.setdefault(event.heard_by, set()).add(event.name)
    assert {name: set(one["hears"]) for name, one in FACTS.items() if one["hears"]} == hears


def test_every_function_of_the_code_is_a_service_and_the_other_way_round() -> None:
    assert set(FACTS) == {*VERBS, "api", "deadletter", "metrics"}
    targets = {environment(next(containers(one)))["FUNCTION_TARGET"] for one in of_kind(external(), "Service").values()}
    assert targets == set(FACTS)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("k8s/broker.yaml", "Broker"),
        ("k8s/triggers.yaml", "Trigger"),
        ("k8s/sweep.yaml", "PingSource"),
        ("keda/scaledjob.yaml", "ScaledJob"),
        ("keda/scaledjob.yaml", "TriggerAuthentication"),
    ],
)
def test_the_local_stack_runs_on_what_the_chart_renders(file: str, kind: str) -> None:
    rendered = specs(external(**{"poolDefaults.maxReplicas": "4"}), kind)
    assert specs(manifests(file), kind) == rendered


def test_every_event_type_of_a_trigger_exists() -> None:
    text = json.dumps([one["spec"]["filters"] for one in of_kind(external(), "Trigger").values()])
    types = {part for part in text.split('"') if part.startswith("visionsuit.")}
    assert types <= set(BY_TYPE)


def test_keda_counts_the_queue_that_the_code_fills_and_nothing_else() -> None:
    found = external(CHART / "examples" / "pools" / "spot.yaml")
    [pool] = of_kind(found, "ScaledJob").values()
    [trigger] = pool["spec"]["triggers"]
    assert trigger["metadata"]["listName"] == queue.key("spot", "queue")
    assert trigger["metadata"]["listLength"] == "1"


def test_a_runner_learns_its_node_from_its_pod() -> None:
    [pool] = of_kind(external(), "ScaledJob").values()
    assert environment((pod(pool) or {})["containers"][0])["NODE_NAME"] == "spec.nodeName"


def test_the_functions_know_the_pools_in_their_order_and_a_runner_its_own() -> None:
    found = external(CHART / "ci" / "production-kafka-external-values.yaml")
    everyone = [c for one in found if one["apiVersion"].startswith(("serving", "keda")) for c in containers(one)]
    told = {environment(c)["POOLS"] for c in everyone if "POOLS" in environment(c)}
    assert told == {"v24:24*8,v80:80*2=large+video"}
    pools = read({"POOLS": told.pop()}).pool_specs.values()
    assert [(p.name, p.vram_gib, p.max_workers) for p in pools] == [("v24", 24, 8), ("v80", 80, 2)]
    assert [p.tags for p in pools] == [{"v24"}, {"v80", "large", "video"}]
    runners = {name: environment(pod(one)["containers"][0]) for name, one in of_kind(found, "ScaledJob").items()}
    assert {name: env["POOL"] for name, env in runners.items()} == {"generator-v24": "v24", "generator-v80": "v80"}


def test_every_variable_the_chart_sets_is_a_setting_that_the_code_accepts() -> None:
    known = {name.upper() for name in SETTINGS}
    server_s_own = {"FUNCTION_TARGET", "FUNCTION_SOURCE", "THREADS", "WORKERS", "HOME", "PYTHONDONTWRITEBYTECODE"}
    certificates = {"SSL_CERT_FILE", "AWS_CA_BUNDLE"}
    for one in external(CHART / "ci" / "production-kafka-external-values.yaml"):
        if one["apiVersion"].startswith(("serving", "keda")):
            for container in containers(one):
                env = environment(container)
                assert set(env) <= known | server_s_own | certificates
                plain = {name: value for name, value in env.items() if "/" not in value and name in known}
                read(plain)


def test_every_setting_is_the_chart_s_or_may_be_set_in_its_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    may_be_set = set(schema["properties"]["settings"]["properties"])
    placed: set[str] = set()
    for one in [*external(**{"s3.endpointUrl": "http://s3"}), *external()]:
        for container in containers(one):
            placed |= set(environment(container))
    known = {name.upper() for name in SETTINGS} - NOT_IN_A_CLUSTER - {"DEV_IDENTITY"}
    assert may_be_set == known - placed


def test_a_function_s_threads_its_database_connections_and_its_concurrency_are_one_number() -> None:
    for one in of_kind(external(CHART / "ci" / "production-kafka-external-values.yaml"), "Service").values():
        template = one["spec"]["template"]
        env = environment(next(containers(one)))
        numbers = {env["THREADS"], env["DATABASE_POOL_SIZE"], str(template["spec"]["containerConcurrency"])}
        numbers.add(template["metadata"]["annotations"]["autoscaling.knative.dev/target"])
        assert len(numbers) == 1


def test_the_chart_and_the_package_carry_one_version() -> None:
    import tomllib

    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == package
