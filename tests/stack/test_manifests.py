"""The manifests a cluster gets, against the schemas of KEDA 2.20.2 and Knative 1.22 and against the code."""

import pytest
from crd import ROOT, errors, manifests

from functions.stack import autoscaler, ticker, trigger

FILES = ["k8s/broker.yaml", "k8s/triggers.yaml", "k8s/sweep.yaml", "keda/scaledjob.yaml"]
HEARS = {
    "submit": {"job.requested"},
    "debit": {"job.submitted"},
    "dispatch": {"job.debited"},
    "complete": {"render.succeeded", "render.failed"},
    "review": {"review.decided"},
    "cancel": {"job.cancel_requested"},
    "earn": {"credits.earned", "grant.approved"},
}


@pytest.mark.parametrize("name", FILES)
def test_every_manifest_keeps_to_its_schema(name: str) -> None:
    found = manifests(name)
    assert found
    assert {one["metadata"]["name"]: errors(one) for one in found} == {one["metadata"]["name"]: [] for one in found}


def test_a_misspelt_a_missing_and_a_mistyped_field_are_found() -> None:
    scaled_job = manifests("keda/scaledjob.yaml")[-1]
    template = scaled_job["spec"]["jobTargetRef"]["template"]["spec"]
    template["containers"][0]["redinessProbe"] = {}
    template["tolerations"] = {}
    del scaled_job["spec"]["triggers"][0]["type"]
    assert sorted(errors(scaled_job)) == [
        ".spec.jobTargetRef.template.spec.containers[0].redinessProbe: unknown",
        ".spec.jobTargetRef.template.spec.tolerations: not of type array",
        ".spec.triggers[0].type: missing",
    ]


def test_each_function_hears_its_own_events_and_no_others() -> None:
    triggers = trigger.read(ROOT / "k8s/triggers.yaml")
    names = {name for heard in HEARS.values() for name in heard} | {"job.queued", "job.failed"}
    hears = {
        one.name.removeprefix("generator-"): {
            name for name in names if one.wants({"type": f"visionsuit.generator.{name}.v1"})
        }
        for one in triggers
    }
    assert hears == HEARS
    assert all(one.subscriber == one.name for one in triggers)


def test_every_trigger_retries_for_a_minute_and_then_tells_the_dead_letter_sink() -> None:
    for one in trigger.read(ROOT / "k8s/triggers.yaml"):
        pauses_s = [one.delivery.pause_s(failures) for failures in range(1, one.delivery.retry + 1)]
        assert pauses_s == [1, 2, 4, 8, 16, 32]
        assert one.delivery.timeout_s == 30
        assert one.delivery.dead_letters == "generator-deadletter"


def test_keda_counts_the_queue_of_the_runners_own_pool() -> None:
    job = autoscaler.read(ROOT / "keda/scaledjob.yaml")
    assert job.queue == f"generator:{{{job.pool}}}:queue"
    assert job.jobs_per_runner == 1
    assert job.command == ("python", "-m", "functions.render")


def test_a_runner_is_ready_exactly_when_its_readiness_file_is_there() -> None:
    spec = manifests("keda/scaledjob.yaml")[-1]["spec"]
    runner = spec["jobTargetRef"]["template"]["spec"]["containers"][0]
    env = {one["name"]: one.get("value") for one in runner["env"]}
    assert runner["readinessProbe"]["exec"]["command"] == ["test", "-f", env["READY_FILE"]]
    assert spec["scalingStrategy"]["pendingPodConditions"] == ["Ready"]


def test_the_label_of_the_pool_is_the_same_wherever_it_stands() -> None:
    scaled_job = manifests("keda/scaledjob.yaml")[-1]
    template = scaled_job["spec"]["jobTargetRef"]["template"]
    for labels in (scaled_job["metadata"]["labels"], template["metadata"]["labels"], template["spec"]["nodeSelector"]):
        assert labels["visionsuit.dev/gpu-pool"] == "default"


def test_the_clock_ticks_every_minute() -> None:
    assert ticker.read(ROOT / "k8s/sweep.yaml").name == "generator-sweep"
    assert manifests("k8s/sweep.yaml")[0]["spec"]["schedule"] == "* * * * *"
