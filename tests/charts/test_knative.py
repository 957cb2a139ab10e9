"""What Knative's admission webhooks would say to the chart: their own checks, built by `make cluster-tools`."""

import subprocess
from pathlib import Path

import pytest
import yaml
from chart import CI, ROOT, Manifest, of_kind, rendered

CHECK = ROOT / ".tools" / "cluster" / "knative-check"
pytestmark = pytest.mark.skipif(not CHECK.is_file(), reason="knative-check is not there: make cluster-tools")


def complaints(found: list[Manifest]) -> list[str]:
    said = subprocess.run([CHECK], input=yaml.safe_dump_all(found), capture_output=True, text=True, check=True)
    theirs = [one for one in found if one["apiVersion"].partition("/")[0].endswith("knative.dev")]
    assert said.stderr == f"{len(theirs)} looked at\n"
    return said.stdout.splitlines()


@pytest.mark.parametrize("values", CI, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_knative_takes_every_shape_as_it_comes(values: Path) -> None:
    assert complaints(rendered(values)) == []


def test_knative_would_say_what_it_refuses() -> None:
    found = rendered(CI[0])
    of_kind(found, "Service")["generator-api"]["spec"]["template"]["spec"]["nodeSelector"] = {"a": "b"}
    of_kind(found, "Trigger")["generator-debit"]["spec"]["delivery"]["backoffDelay"] = "1 second"
    assert [one.partition(":")[0] for one in complaints(found)] == ["Service generator-api", "Trigger generator-debit"]
