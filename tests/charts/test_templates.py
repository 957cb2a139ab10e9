"""Every shape of installation renders, and what it renders keeps to the schemas of Kubernetes, KEDA and Knative."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from chart import CHART, CI, POOLS, component, containers, environment, external, helm, of_kind, pod, rendered, wrong

SHAPES = {path.stem: path for path in (*CI, *POOLS)}


def manifests_of(path: Path) -> list[dict]:
    return external(path) if path in POOLS else rendered(path)


@pytest.mark.parametrize("path", CI, ids=lambda path: path.stem)
def test_helm_lint_finds_nothing(path: Path) -> None:
    done = helm("lint", "--strict", "--kube-version", "1.34.0", str(CHART), "--values", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("shape", SHAPES)
def test_every_manifest_keeps_to_its_schema(shape: str) -> None:
    found = manifests_of(SHAPES[shape])
    assert {f"{one['kind']} {one['metadata']['name']}": wrong(one) for one in found if wrong(one)} == {}


def test_a_misspelt_and_a_mistyped_field_of_kubernetes_own_kinds_are_found() -> None:
    [policy] = [one for one in external() if one["metadata"]["name"] == "generator-to-redis"]
    policy["spec"]["egres"] = policy["spec"].pop("egress")
    policy["spec"]["policyTypes"] = "Egress"
    job = of_kind(external(), "Job")["generator-migrate"]
    job["spec"]["backoffLimit"] = "12"
    del job["spec"]["template"]["spec"]["containers"][0]["name"]
    assert sorted(wrong(policy)) == [".spec.egres: unknown", ".spec.policyTypes: not of type List[str]"]
    assert sorted(wrong(job)) == [
        ".spec.backoffLimit: '12' is not of type int",
        ".spec.jobTargetRef.template.spec.containers[0].name: missing",
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_two_manifests_are_the_same_object(shape: str) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests_of(SHAPES[shape])]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_secret_and_claim_a_pod_names_is_the_chart_s_or_the_owner_s(shape: str) -> None:
    found = manifests_of(SHAPES[shape])
    secrets = {name: {*one.get("stringData", {})} for name, one in of_kind(found, "Secret").items()}
    trial = bool(secrets)
    for one in found:
        for container in (pod(one) or {}).get("containers", ()):
            for variable in container.get("env", ()):
                ref = variable.get("valueFrom", {}).get("secretKeyRef")
                if ref and trial:
                    assert ref["key"] in secrets[ref["name"]], (one["metadata"]["name"], variable["name"])


def test_a_name_fits_with_the_longest_release_and_pool() -> None:
    found = rendered(trial__enabled="true", fullnameOverride="r" * 30, **{"pools[0].name": "p" * 19})
    scaled_jobs = of_kind(found, "ScaledJob")
    assert [len(name) for name in scaled_jobs] == [50]
    assert max(len(one["metadata"]["name"]) for one in found) <= 63


def test_labels_that_select_say_nothing_that_changes_with_a_release() -> None:
    for one in rendered(trial__enabled="true"):
        labels = one.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)


def test_the_broker_s_address_follows_its_class() -> None:
    def sink(**values: str) -> str:
        [render] = of_kind(external(**values), "ScaledJob").values()
        [runner] = pod(render)["containers"]
        return next(one["value"] for one in runner["env"] if one["name"] == "K_SINK")

    domain = "svc.cluster.local"
    assert sink() == f"http://broker-ingress.knative-eventing.{domain}/generator/generator"
    assert sink(broker__class="Kafka") == f"http://kafka-broker-ingress.knative-eventing.{domain}/generator/generator"
    own = {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine"}
    config = {f"broker__config__{name}": value for name, value in own.items()}
    assert sink(broker__class="RabbitMQBroker", **config) == f"http://generator-broker-ingress.generator.{domain}"
    assert sink(broker__address="http://elsewhere/b") == "http://elsewhere/b"


def test_an_external_api_is_the_only_thing_reached_from_outside() -> None:
    local = "networking.knative.dev/visibility"
    services = of_kind(external(api__visibility="external"), "Service")
    assert {name for name, one in services.items() if local not in one["metadata"]["labels"]} == {"generator-api"}
    assert all(one["metadata"]["labels"][local] for one in of_kind(external(), "Service").values())


def test_each_pool_is_a_scaled_job_with_values_of_its_own_over_the_defaults() -> None:
    found = external(CHART / "ci" / "production-kafka-external-values.yaml")
    pools = of_kind(found, "ScaledJob")
    assert set(pools) == {"generator-v24", "generator-v80"}
    v24, v80 = (pools[name]["spec"] for name in ("generator-v24", "generator-v80"))
    assert (v24["maxReplicaCount"], v80["maxReplicaCount"]) == (8, 2)
    assert pod(pools["generator-v80"])["nodeSelector"] == {
        "visionsuit.dev/gpu-pool": "v80",
        "topology.kubernetes.io/zone": "a",
    }
    assert set(of_kind(found, "PersistentVolumeClaim")) == {"generator-v24-models"}
    assert [v["name"] for v in pod(pools["generator-v80"])["volumes"] if "hostPath" in v] == ["models"]


def test_a_pool_may_ask_for_a_slice_of_a_gpu_in_place_of_a_whole_one(tmp_path: Path) -> None:
    values = tmp_path / "mig.yaml"
    values.write_text("pools: [{name: a, resources: {limits: {memory: 9Gi, nvidia.com/mig-1g.10gb: 1}}}]")
    [pool] = of_kind(external(values), "ScaledJob").values()
    [comfyui] = pod(pool)["initContainers"]
    assert comfyui["resources"] == {"limits": {"memory": "9Gi", "nvidia.com/mig-1g.10gb": 1}}


def test_a_pool_may_name_its_cache_in_one_word() -> None:
    found = external(**{"pools[0].name": "a", "pools[0].cache": "pvc"})
    assert (
        of_kind(found, "PersistentVolumeClaim")["generator-a-models"]["spec"]["resources"]["requests"]["storage"]
        == "60Gi"
    )


def test_what_a_pool_or_function_says_wins_over_the_defaults_even_when_it_says_no(tmp_path: Path) -> None:
    values = tmp_path / "no.yaml"
    values.write_text(
        "poolDefaults: {paused: true}\npools: [{name: a, paused: false, tolerations: []}]\n"
        "functionDefaults: {minScale: 1}\nfunctions: {debit: {minScale: 0}}"
    )
    found = external(values)
    [pool] = of_kind(found, "ScaledJob").values()
    assert "autoscaling.keda.sh/paused" not in pool["metadata"]["annotations"]
    assert pod(pool)["tolerations"] == []
    annotations = of_kind(found, "Service")["generator-debit"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/min-scale"] == "0"


def test_a_trial_knows_its_own_keys_whatever_keys_production_has(tmp_path: Path) -> None:
    values = tmp_path / "keys.yaml"
    values.write_text(
        "trial: {enabled: true}\ndatabase: {key: a, keys: {debit: b}, migrationsKey: c}\nredis: {key: d}\n"
        "s3: {accessKeyIdKey: e, secretAccessKeyKey: f}\nsigning: {key: g}"
    )
    found = rendered(values)
    known = set(of_kind(found, "Secret")["generator-trial"]["stringData"])
    told = {str(value) for one in found for c in containers(one) for value in environment(c).values()}
    assert {value.partition("/")[2] for value in told if value.startswith("generator-trial/")} <= known


def test_a_paused_pool_starts_nothing_and_lets_what_runs_go_on() -> None:
    [pool] = of_kind(external(**{"poolDefaults.paused": "true"}), "ScaledJob").values()
    assert pool["metadata"]["annotations"]["autoscaling.keda.sh/paused"] == "true"
    assert pool["spec"]["rollout"]["strategy"] == "gradual"


def test_a_stand_in_wants_no_gpu_and_no_gpu_node() -> None:
    [pool] = of_kind(rendered(CHART / "ci" / "trial-values.yaml"), "ScaledJob").values()
    assert "nvidia.com/gpu" not in str(pool)
    assert "nodeSelector" not in pod(pool)


def test_the_notes_fit_the_installation(tmp_path: Path) -> None:
    # `helm template` leaves the notes out, and `helm install` wants a cluster: a copy of the chart has them as data.
    copy = shutil.copytree(CHART, tmp_path / CHART.name)
    (copy / "templates" / "NOTES.txt").rename(copy / "NOTES.txt")
    (copy / "templates" / "notes.yaml").write_text('notes: {{ tpl (.Files.Get "NOTES.txt") . | quote }}')

    def notes(name: str) -> str:
        values = ("--values", str(CHART / "ci" / name), "--kube-version", "1.34.0")
        done = helm("template", "generator", str(copy), "--namespace", "here", "-s", "templates/notes.yaml", *values)
        return str(yaml.safe_load(done.stdout)["notes"])

    trial, production = notes("trial-values.yaml"), notes("production-kafka-external-values.yaml")
    assert "THIS IS A TRIAL" in trial
    assert "kubectl port-forward -n here" in trial
    assert "stand-ins, no GPU" in trial
    assert re.search(r"asked for 1\d\d connections", trial)
    assert "forgets what it" in trial
    assert "THIS IS A TRIAL" not in production
    assert "v80          up to 2 GPUs of 80 GiB" in production
    assert "alerts (monitoring.prometheusRule.enabled)" in production


def test_an_installation_on_an_old_kubernetes_is_refused() -> None:
    done = helm("template", "generator", str(CHART), "--kube-version", "1.30.0", "--set", "trial.enabled=true")
    assert "1.31" in done.stderr


def test_a_budget_protects_only_what_has_two_instances() -> None:
    found = external(CHART / "ci" / "production-kafka-external-values.yaml")
    assert set(of_kind(found, "PodDisruptionBudget")) == {"generator-submit", "generator-api"}
    assert not of_kind(external(), "PodDisruptionBudget")


def test_migrations_run_before_an_upgrade_and_at_the_first_install_when_there_is_a_database() -> None:
    def hook(found: list[dict]) -> str:
        return of_kind(found, "Job")["generator-migrate"]["metadata"]["annotations"]["helm.sh/hook"]

    assert hook(external()) == "pre-install,pre-upgrade"
    assert hook(rendered(trial__enabled="true")) == "post-install,pre-upgrade"


def test_components_are_named_once_each() -> None:
    functions = [component(one) for one in external() if one["apiVersion"] == "serving.knative.dev/v1"]
    assert len(functions) == len(set(functions)) == 11
