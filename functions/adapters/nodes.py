"""Nodes of the GPU pools in Kubernetes: cordoned, drained of runners, and put back.

A drain asks the Eviction API, so a disruption budget is heeded. An evicted runner gets SIGTERM and gives its job back
at no attempt; KEDA starts another where there is room.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from functions.config import config
from functions.domain.errors import Rejected, Unavailable

POOL_LABEL = "visionsuit.dev/gpu-pool"
RUNNERS = f"app.kubernetes.io/component=render,{POOL_LABEL}"
REASON = "visionsuit.dev/cordon-reason"
SINCE = "visionsuit.dev/cordoned-at"
TIMEOUT_S = (3, 20)  # to connect, to answer


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of a GPU pool. cordoned: no new pod is put on it; reason and cordoned_at, if it was us."""

    name: str
    pool: str
    ready: bool
    cordoned: bool
    reason: str = ""
    cordoned_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What a drain came to: runners that were told to go, and those that stay, each with the reason."""

    evicted: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)


def listing() -> list[Node]:
    """Every node of a GPU pool, by pool and name."""
    with _answering("list nodes"):
        found = _api().list_node(label_selector=POOL_LABEL, _request_timeout=TIMEOUT_S).items
    return sorted(map(_node, found), key=lambda node: (node.pool, node.name))


def cordon(name: str, *, reason: str) -> Node:
    """Let nothing new onto the node, and write down why; Rejected when it is no node of a GPU pool."""
    get(name)
    return _patch(name, unschedulable=True, notes={REASON: reason or None, SINCE: _now()})


def uncordon(name: str) -> Node:
    """Take the node into service again; Rejected when it is no node of a GPU pool."""
    get(name)
    return _patch(name, unschedulable=None, notes={REASON: None, SINCE: None})


def get(name: str) -> Node:
    """The node; Rejected when there is none of this name, or it is in no GPU pool and so none of our business."""
    with _answering(f"read node {name}", missing=f"there is no node {name}: `vsgen gpu list` names those there are"):
        found = _api().read_node(name, _request_timeout=TIMEOUT_S)
    if POOL_LABEL not in (found.metadata.labels or {}):
        raise Rejected("no_gpu_node", f"{name} is in no GPU pool: it lacks the label {POOL_LABEL}")
    return _node(found)


def drain(name: str) -> Drained:
    """Evict the runners on the node; those that a disruption budget holds stay."""
    from kubernetes import client

    with _answering("list the runners"):
        pods = _api().list_pod_for_all_namespaces(
            field_selector=f"spec.nodeName={name}", label_selector=RUNNERS, _request_timeout=TIMEOUT_S
        )
    evicted, kept = [], {}
    for pod in (pod for pod in pods.items if pod.status.phase not in ("Succeeded", "Failed")):
        place = {"name": pod.metadata.name, "namespace": pod.metadata.namespace}
        eviction = client.V1Eviction(api_version="policy/v1", kind="Eviction", metadata=client.V1ObjectMeta(**place))
        label = f"{pod.metadata.namespace}/{pod.metadata.name}"
        with _answering(f"evict {label}"):
            try:
                _api().create_namespaced_pod_eviction(**place, body=eviction, _request_timeout=TIMEOUT_S)
                evicted.append(label)
            except client.ApiException as error:
                if error.status == 429:
                    kept[label] = "a disruption budget holds it: try again later"
                elif error.status != 404:  # 404: it ended by itself
                    raise
    return Drained(evicted=tuple(evicted), kept=kept)


def _patch(name: str, *, unschedulable: bool | None, notes: Mapping[str, str | None]) -> Node:
    change = {"spec": {"unschedulable": unschedulable}, "metadata": {"annotations": dict(notes)}}
    with _answering(f"change node {name}"):
        return _node(_api().patch_node(name, change, _request_timeout=TIMEOUT_S))


def _node(found: Any) -> Node:
    notes = found.metadata.annotations or {}
    conditions = {one.type: one.status for one in (found.status and found.status.conditions) or ()}
    return Node(
        name=found.metadata.name,
        pool=(found.metadata.labels or {}).get(POOL_LABEL, ""),
        ready=conditions.get("Ready") == "True",
        cordoned=bool(found.spec and found.spec.unschedulable),
        reason=notes.get(REASON, ""),
        cordoned_at=notes.get(SINCE, ""),
    )


@cache
def _api() -> Any:
    """The cluster that KUBECONFIG names, or the one this pod runs in; Unavailable when there is neither."""
    from kubernetes import client
    from kubernetes import config as kubeconfig

    try:
        _load(kubeconfig, config().kubeconfig)
    except kubeconfig.ConfigException as error:
        raise Unavailable(f"no cluster to speak to: {error}; set KUBECONFIG to a kubeconfig file") from error
    return client.CoreV1Api()


def _load(kubeconfig: Any, file: str | None) -> None:
    """Its own `load_config` never looks into the pod when it is given a file's name, not even None."""
    try:
        kubeconfig.load_kube_config(config_file=file)
    except kubeconfig.ConfigException:
        if file:
            raise
        kubeconfig.load_incluster_config()


@contextmanager
def _answering(what: str, *, missing: str = "") -> Iterator[None]:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status == 404 and missing:
            raise Rejected("unknown_node", missing) from error
        if error.status in (401, 403):
            raise Rejected("not_allowed", f"the cluster does not let this account {what}") from error
        raise Unavailable(f"the cluster answered {error.status} when asked to {what}") from error
    except HTTPError as error:
        raise Unavailable(f"the cluster cannot be reached to {what}: {error.__class__.__name__}") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
