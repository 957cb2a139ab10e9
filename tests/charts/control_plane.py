"""A real control plane without containers: etcd, the API server, its controllers, the scheduler and KEDA's operator.

`make cluster-tools` builds them. Nodes are rows in the API; what a kubelet would do with pods on them is `kubelet.py`.
There is no network of pods, so network policies are taken and not enforced, and no Knative beside its CRDs.
"""

import base64
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from chart import ROOT, program
from live import eventually

from functions.stack.process import Service
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

BIN = ROOT / ".tools" / "cluster"
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "keda-operator")
#: KEDA's own, all of them: its operator waits for each kind.
KEDA_CRDS = BIN / "crds"
CRDS = ROOT / "tests" / "stack" / "crds"
ADMIN, GROUP = "admin", "system:masters"


class Cluster:
    """A running control plane. kubeconfig: a file of its administrator's."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._folder = state.folder("cluster")
        self.url = f"https://127.0.0.1:{state.port('kube-apiserver')}"
        self.token = state.secret("kube-admin")
        self.ca = self._folder / "apiserver.crt"
        self.kubeconfig = self.kubeconfig_of("admin", self.token)

    def kubeconfig_of(self, name: str, token: str) -> Path:
        """A kubeconfig file with which `name` speaks to this cluster."""
        path = self._folder / f"{name}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        context = {"cluster": "here", "user": name}
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [{"name": "here", "cluster": cluster}],
                    "contexts": [{"name": "here", "context": context}],
                    "users": [{"name": name, "user": {"token": token}}],
                }
            )
        )
        return path

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer's JSON; an HTTPError with the server's own words when it refuses. STRATEGIC is a PATCH that adds
        to lists, by their keys."""
        kinds = {"PATCH": "merge-patch+json", "STRATEGIC": "strategic-merge-patch+json"}
        answer = requests.request(
            "PATCH" if method in kinds else method,
            f"{self.url}{path}",
            params=query,
            json=body,
            headers={
                "authorization": f"Bearer {self.token}",
                "content-type": f"application/{kinds.get(method, 'json')}",
            },
            verify=str(self.ca),
            timeout=20,
        )
        if not answer.ok:
            raise requests.HTTPError(answer.text, response=answer)
        return answer.json()

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        return list(self.call("GET", path, **query)["items"])

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self._folder)}
        return subprocess.run([program("helm"), *arguments], env=env, capture_output=True, text=True, check=False)

    def token_of(self, namespace: str, account: str) -> str:
        """A token of a service account, as a pod of its gets one."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.call("POST", path, body)["status"]["token"])

    def define(self, *paths: Path) -> None:
        """Custom resource definitions, until their kinds are served."""
        definitions = [yaml.safe_load(path.read_text()) for path in paths]
        for one in definitions:
            self.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", one)
        for spec in (one["spec"] for one in definitions):
            for version in (one["name"] for one in spec["versions"] if one["served"]):
                eventually(partial(self._lists, f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"))

    def _lists(self, path: str) -> bool:
        try:
            return isinstance(self.items(path), list)
        except requests.HTTPError:
            return False

    def services(self) -> Iterator[Service]:
        """What runs, in the order it starts."""
        folder, port = self._folder, self.state.port
        key, public = folder / "accounts.key", folder / "accounts.pub"
        _openssl("genrsa", "-out", str(key), "2048")
        _openssl("rsa", "-in", str(key), "-pubout", "-out", str(public))
        (folder / "tokens.csv").write_text(f'{self.token},{ADMIN},{ADMIN},"{GROUP}"\n')
        etcd, peer = f"http://127.0.0.1:{port('etcd')}", f"http://127.0.0.1:{port('etcd-peer')}"
        yield self._service(
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            ready=partial(_answers, f"{etcd}/health"),
        )
        yield self._service(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port('kube-apiserver')}",
            f"--cert-dir={folder}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={key}",
            "--disable-admission-plugins=TaintNodesByCondition",  # nobody here would take the taint away
            ready=lambda: self.ca.exists() and _answers(f"{self.url}/readyz", token=self.token, ca=self.ca),
        )
        yield self._service(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port('kube-controller-manager')}",
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={self.ca}",
            "--controllers=*,-node-lifecycle-controller",  # nodes here send no heartbeat
            ready=partial(_answers, f"https://127.0.0.1:{port('kube-controller-manager')}/healthz", ca=False),
        )
        yield self._service(
            "kube-scheduler",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port('kube-scheduler')}",
            ready=partial(_answers, f"https://127.0.0.1:{port('kube-scheduler')}/healthz", ca=False),
        )

    def keda(self) -> Service:
        """KEDA's operator, which watches all namespaces as the chart asks for it."""
        certificates = self._folder / "keda"
        certificates.mkdir(exist_ok=True)
        key, certificate = certificates / "tls.key", certificates / "tls.crt"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=keda"),
            *("-keyout", str(key), "-out", str(certificate)),
        )
        (certificates / "ca.crt").write_bytes(certificate.read_bytes())
        probe = f"127.0.0.1:{self.state.port('keda-probe')}"
        return self._service(
            "keda-operator",
            f"--kubeconfig={self.kubeconfig}",
            f"--cert-dir={certificates}",
            "--metrics-bind-address=0",
            f"--health-probe-bind-address={probe}",
            f"--metrics-service-bind-address=127.0.0.1:{self.state.port('keda-metrics')}",
            "--enable-webhook-patching=false",
            "--enable-apiservice-patching=false",
            ready=partial(_answers, f"http://{probe}/readyz"),
            env={"WATCH_NAMESPACE": "", "POD_NAMESPACE": "keda", "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda"},
        )

    def node(self, name: str, *, labels: dict[str, str], gpus: int = 0, tainted: bool = False) -> None:
        """A node that is ready for pods."""
        path = "/api/v1/nodes"
        taints = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}] if tainted else []
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}
        self.call("POST", path, {"kind": "Node", "metadata": metadata, "spec": {"taints": taints}})
        room = {"cpu": "64", "memory": "512Gi", "pods": "100", "ephemeral-storage": "1Ti", "nvidia.com/gpu": str(gpus)}
        ready = {"type": "Ready", "status": "True", "reason": "Here", "message": "as a test says"}
        status = {"capacity": room, "allocatable": room, "conditions": [ready]}
        self.call("PATCH", f"{path}/{name}/status", {"status": status})

    def _service(
        self, name: str, *arguments: str, ready: Callable[[], bool], env: dict[str, str] | None = None
    ) -> Service:
        return Service(
            name=name,
            argv=(str(BIN / name), *arguments),
            env={"PATH": os.defpath, "HOME": str(self._folder), "NO_PROXY": "*", **(env or {})},
            cwd=self._folder,
            log=self.state.log(name),
            pid_file=self.state.pid_file(name),
            ready=ready,
            ready_within_s=90,
            grace_s=2,
        )


@contextmanager
def running(state: State) -> Iterator[Cluster]:
    """A cluster with the CRDs that the chart needs, and two nodes: one without a GPU, one of the pool `default`."""
    missing = [name for name in PARTS if not (BIN / name).is_file()]
    if missing:
        pytest.skip(f"{', '.join(missing)}: make cluster-tools")
    cluster = Cluster(state)
    with Supervisor() as supervisor:
        for service in cluster.services():
            supervisor.start(service)
        ours = {path.name: path for folder in (KEDA_CRDS, CRDS) for path in folder.glob("*.yaml")}
        cluster.define(*ours.values())
        cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "keda"}})
        storage = {"name": "here", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        cluster.call("POST", "/apis/storage.k8s.io/v1/storageclasses", {"metadata": storage, "provisioner": "here"})
        cluster.node("web-1", labels={})
        cluster.node("gpu-1", labels={"visionsuit.dev/gpu-pool": "default"}, gpus=2, tainted=True)
        supervisor.start(cluster.keda())
        yield cluster


def decoded(secret: dict[str, Any]) -> dict[str, str]:
    """A Secret's words."""
    return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


def _answers(url: str, *, token: str = "", ca: Path | bool = True) -> bool:
    try:
        verify = str(ca) if isinstance(ca, Path) else ca
        return requests.get(url, headers={"authorization": f"Bearer {token}"}, verify=verify, timeout=2).ok
    except requests.RequestException:
        return False


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
