"""The chart through the real helm: what it renders, and what it refuses."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import core
import pytest
import yaml
from stack.crd import errors

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "visionsuit-generator"
CI = sorted((CHART / "ci").glob("*-values.yaml"))
POOLS = sorted((CHART / "examples" / "pools").glob("*.yaml"))
EXTERNAL = {
    "database.existingSecret": "generator-postgres",
    "redis.existingSecret": "generator-redis",
    "redis.address": "generator-redis:6379",
    "redis.keda.existingSecret": "generator-redis-keda",
    "s3.existingSecret": "generator-s3",
    "signing.existingSecret": "generator-signing",
}
Manifest = dict[str, Any]
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def program(name: str) -> str:
    """A program that `make tools` installs; without it a test is skipped on a laptop, and fails in CI."""
    places = (os.environ.get("PATH", os.defpath), Path.home() / "go" / "bin", ROOT / ".tools" / "bin")
    found = shutil.which(name, path=os.pathsep.join(map(str, places)))
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not there: make tools")
    return found


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("helm"), *arguments], capture_output=True, text=True, check=False)


@cache
def template(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`helm template` as the release `generator` in the namespace of the same name."""
    # A helm from `go install` does not know its Kubernetes version, so it is told.
    where = ("--namespace", "generator", "--kube-version", "1.34.0")
    return helm("template", "generator", str(CHART), *where, *arguments)


def rendered(*files: Path, **values: str) -> list[Manifest]:
    """What comes out of these values files and values (`a__b` is `a.b`), without what Helm leaves empty."""
    settings = {name.replace("__", "."): value for name, value in values.items()}
    sets = (part for name, value in settings.items() for part in ("--set", f"{name}={value}"))
    done = template(*(part for file in files for part in ("--values", str(file))), *sets)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, Loader=Loader) if one]


def external(*files: Path, **values: str) -> list[Manifest]:
    """The same, with servers of one's own."""
    return rendered(*files, **{name.replace(".", "__"): value for name, value in EXTERNAL.items()}, **values)


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    """The manifests of these kinds, by name."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] in kinds}


def component(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def pod(manifest: Manifest) -> Manifest | None:
    """The pod's spec inside a manifest, if there is one."""
    spec = manifest.get("spec", {})
    spec = spec.get("jobTargetRef", spec)
    if manifest["kind"] == "Pod":
        return dict(spec)
    return spec.get("template", {}).get("spec") if manifest["kind"] not in ("Secret", "ConfigMap") else None


def containers(manifest: Manifest) -> Iterator[Manifest]:
    spec = pod(manifest) or {}
    yield from spec.get("initContainers", ())
    yield from spec.get("containers", ())


def environment(container: Manifest) -> dict[str, Any]:
    """The container's variables: the value, or `secret/key`, or the field of the pod."""

    def said(one: Manifest) -> Any:
        match one.get("valueFrom"):
            case {"secretKeyRef": ref}:
                return f"{ref['name']}/{ref['key']}"
            case {"fieldRef": ref}:
                return ref["fieldPath"]
        return one["value"]

    return {one["name"]: said(one) for one in container.get("env", ())}


def wrong(manifest: Manifest) -> list[str]:
    """What is wrong with a manifest by its schema.

    Pods are held to the schema inside the ScaledJob's as well, because that one knows which fields are required.
    """
    if not manifest["apiVersion"].endswith((".dev/v1", ".sh/v1alpha1", ".com/v1")):
        template = {"spec": pod(manifest)} if pod(manifest) else None
        return core.errors(manifest) + (errors(_scaled_job(template)) if template else [])
    return errors(manifest)


def _scaled_job(template: Manifest) -> Manifest:
    spec = {"jobTargetRef": {"template": template}, "triggers": []}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": {}, "spec": spec}
