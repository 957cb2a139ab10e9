"""Alerts and dashboard, where the chart carries them."""

import json
import subprocess

import pytest
import yaml
from chart import CHART, external, of_kind, program, wrong

RULES, RULES_TEST, DASHBOARD = (CHART / "files" / name for name in ("rules.yaml", "rules_test.yaml", "dashboard.json"))


@pytest.mark.skipif(not RULES_TEST.exists(), reason="no rules yet")
def test_the_rules_alert_when_they_should_and_only_then() -> None:
    promtool = program("promtool")
    for arguments in (("check", "rules", str(RULES)), ("test", "rules", str(RULES_TEST))):
        done = subprocess.run([promtool, *arguments], cwd=CHART / "files", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not RULES.exists(), reason="no rules yet")
def test_the_rules_reach_the_prometheus_operator_unchanged() -> None:
    [rule] = of_kind(external(monitoring__prometheusRule__enabled="true"), "PrometheusRule").values()
    assert wrong(rule) == []
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


@pytest.mark.skipif(not DASHBOARD.exists(), reason="no dashboard yet")
def test_the_dashboard_reaches_grafana_unchanged() -> None:
    [board] = of_kind(external(monitoring__dashboard__enabled="true"), "ConfigMap").values()
    assert json.loads(board["data"]["visionsuit-generator.json"]) == json.loads(DASHBOARD.read_text())


def test_prometheus_scrapes_the_pods_of_metrics_by_the_labels_knative_gives_their_service() -> None:
    found = external(monitoring__serviceMonitor__enabled="true")
    [monitor] = of_kind(found, "ServiceMonitor").values()
    assert wrong(monitor) == []
    assert monitor["spec"]["selector"]["matchLabels"]["serving.knative.dev/service"] in of_kind(found, "Service")
    into = of_kind(found, "NetworkPolicy")["generator-metrics"]["spec"]["ingress"]
    assert [port["port"] for rule in into for port in rule["ports"]] == [8012]
