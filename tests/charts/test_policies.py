"""What holds for every pod of every shape: least rights, pinned images, limits, and a closed network."""

from pathlib import Path
from typing import Any

import pytest
from chart import CHART, CI, POOLS, component, containers, external, of_kind, pod, rendered

SHAPES = {path.stem: path for path in (*CI, *POOLS)}
FUNCTIONS_OWN_PODS = ("Service",)  # Knative makes them, and lets nobody set their pod security context
TRIAL = CHART / "ci" / "trial-values.yaml"


@pytest.fixture(params=SHAPES)
def pods(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    path: Path = SHAPES[request.param]
    found = external(path) if path in POOLS else rendered(path)
    return [one for one in found if pod(one)]


def test_every_container_runs_without_rights(pods: list[dict[str, Any]]) -> None:
    for one in pods:
        for container in containers(one):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["runAsNonRoot"] is True
            assert context["runAsUser"] > 0
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert "privileged" not in context


def test_every_container_has_limits_and_an_image_that_stays_what_it_is(pods: list[dict[str, Any]]) -> None:
    for one in pods:
        for container in containers(one):
            assert "memory" in container["resources"]["limits"], (one["metadata"]["name"], container["name"])
            assert "@sha256:" in container["image"] or ":" in container["image"].rpartition("/")[2]
            assert not container["image"].endswith(":latest")


def test_no_pod_gets_a_token_or_a_place_on_its_host(pods: list[dict[str, Any]]) -> None:
    for one in pods:
        spec = pod(one) or {}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        if one["kind"] not in FUNCTIONS_OWN_PODS:
            assert spec["securityContext"]["runAsNonRoot"] is True


def test_whatever_a_read_only_container_writes_to_is_a_volume(pods: list[dict[str, Any]]) -> None:
    for one in pods:
        names = {volume["name"] for volume in (pod(one) or {}).get("volumes", ())}
        names |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
        mounted = {mount["name"] for container in containers(one) for mount in container.get("volumeMounts", ())}
        assert mounted == names


def test_a_function_is_told_only_the_secrets_it_needs() -> None:
    services = of_kind(external(), "Service")
    text = {component(one): str(one["spec"]) for one in services.values()}
    assert {name for name in text if "SERVICE_SECRETS" in text[name]} == {"submit", "review", "cancel", "earn", "api"}
    assert "S3_SECRET_ACCESS_KEY" not in text["debit"] + text["submit"] + text["deadletter"] + text["metrics"]
    assert "DEV_IDENTITY" not in "".join(text.values())


def test_in_a_trial_only_the_api_takes_requests_without_a_token() -> None:
    services = of_kind(rendered(TRIAL), "Service")
    assert [name for name, one in services.items() if "DEV_IDENTITY" in str(one)] == ["generator-api"]


def test_a_network_is_closed_unless_somebody_opens_it() -> None:
    policies = of_kind(external(), "NetworkPolicy")
    closed = policies["generator-closed"]["spec"]
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(closed)
    assert closed["podSelector"] == {
        "matchLabels": {
            "app.kubernetes.io/name": "visionsuit-generator",
            "app.kubernetes.io/instance": "generator",
        }
    }
    assert not of_kind(external(networkPolicy__enabled="false"), "NetworkPolicy")


def selects(policy: dict[str, Any], name: str) -> bool:
    """Does a policy of ours apply to the pods of this component?"""
    selector = policy["spec"]["podSelector"]
    label = selector["matchLabels"].get("app.kubernetes.io/component", name)
    among = [one["values"] for one in selector.get("matchExpressions", ())]
    return label == name and all(name in values for values in among)


@pytest.mark.parametrize("path", CI, ids=lambda path: path.stem)
def test_nobody_reaches_comfyui_and_it_reaches_only_our_servers(path: Path) -> None:
    found = rendered(path)
    policies = [one for one in of_kind(found, "NetworkPolicy").values() if selects(one, "render")]
    assert not [one for one in policies if "ingress" in one["spec"]]
    ways = {one["metadata"]["name"] for one in policies if "egress" in one["spec"]}
    assert ways == {f"generator-{way}" for way in ("names", "to-postgres", "to-redis", "to-s3", "to-broker")}
    for job in of_kind(found, "ScaledJob").values():
        [comfyui] = (pod(job) or {})["initContainers"]
        assert "--listen=127.0.0.1" in comfyui["args"]
        assert "ports" not in comfyui


def test_functions_are_reached_through_knative_alone() -> None:
    policies = of_kind(external(), "NetworkPolicy").values()
    [into] = [one for one in policies if selects(one, "submit") and "ingress" in one["spec"]]
    [rule] = into["spec"]["ingress"]
    [source] = rule["from"]
    assert source["namespaceSelector"]["matchExpressions"][0]["values"] == [
        "knative-serving",
        "knative-eventing",
        "kourier-system",
    ]
    assert 8080 not in [port["port"] for port in rule["ports"]]  # the function's own, past Knative's proxy


def test_what_a_component_may_reach_is_what_it_is_told_of() -> None:
    found = external()
    policies = of_kind(found, "NetworkPolicy")
    variables = {"postgres": "DATABASE_URL", "redis": "REDIS_URL", "s3": "S3_REGION", "broker": "K_SINK"}
    for one in found:
        if one["apiVersion"] == "serving.knative.dev/v1" or one["kind"] == "ScaledJob":
            told = {e["name"] for c in containers(one) for e in c.get("env", ())}
            for way, variable in variables.items():
                assert selects(policies[f"generator-to-{way}"], component(one)) == (variable in told), (one, way)


def test_in_a_private_network_every_image_is_the_mirror_s_and_pinned() -> None:
    found = [one for one in rendered(CHART / "ci" / "airgapped-private-registry-values.yaml") if pod(one)]
    images = {container["image"] for one in found for container in containers(one)}
    assert len(images) == 5
    assert all(image.startswith("registry.internal.example:5000/mirror/") for image in images)
    assert all("@sha256:" in image for image in images)
    assert all((pod(one) or {})["imagePullSecrets"] == [{"name": "mirror"}] for one in found)
