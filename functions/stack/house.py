"""The whole house on one machine: real servers, the functions, a Broker, an autoscaler and a ComfyUI, put together.

    with House(Path(".state")) as house:
        print(house.api_url)

Whatever has a URL in the environment (DATABASE_URL, REDIS_URL, S3_ENDPOINT_URL, COMFYUI_URL) is used as it is; the
rest is started here, on loopback ports, with its data in the state folder, and stopped at the end.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from functions import config as settings
from functions.adapters import migrations, queue, storage
from functions.adapters import postgres as database
from functions.serve import VERBS
from functions.stack import autoscaler, postgres, s3, seed, ticker, valkey
from functions.stack.platform import CoreAPI
from functions.stack.process import Service, speaks_http
from functions.stack.state import State
from functions.stack.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
#: The functions beside the verbs: what they could not take, what they did, and how people reach them.
BESIDE = ("deadletter", "metrics", "api")
SERVE = ROOT / "functions" / "serve.py"
#: One person waits at one machine: what a cluster does in minutes is done in seconds here.
HASTE = {
    **{"LEASE_S": "6", "HEARTBEAT_S": "2", "RETELL_S": "3"},
    **{"RETRY_BASE_S": "2", "RETRY_CAP_S": "10", "COMFYUI_START_S": "60"},
    **{"ASSUMED_START_S": "4"},
}
BACKOFF_SCALE = 0.25


class House:
    """A running local stack. Making one locks the state folder; `start` fills it with life, `stop` ends it all.

    gpus: how many runners may work at once. step_ms: the pace of the ComfyUI stand-in.
    """

    def __init__(
        self,
        root: Path,
        *,
        gpus: int = 1,
        step_ms: int = 60,
        environ: Mapping[str, str] | None = None,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._gpus, self._step_ms, self._told = gpus, step_ms, told
        given = os.environ if environ is None else environ
        settings.read(given)  # what is set wrong is said before anything is started
        # A proxy for the world is none for loopback, and some clients would ask it.
        self.env = {k: v for k, v in given.items() if not k.lower().endswith("_proxy")}
        self.own_comfyui_url = given.get("COMFYUI_URL") or None
        self.seeded: seed.Seeded | None = None
        self._environ_before: dict[str, str] | None = None
        self.admin_database_url: str | None = None  # of our own Postgres
        self.state = State(root)
        self.supervisor = Supervisor()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def api_url(self) -> str:
        return self.url("api")

    @property
    def broker_url(self) -> str:
        return self.url("broker")

    @property
    def platform(self) -> CoreAPI:
        """The platform beside this house, signing as the functions expect."""
        return CoreAPI(
            api_url=self.api_url,
            broker_url=self.broker_url,
            secret=self.env["SERVICE_SECRETS"].split(",")[0],
            default_model=self.seeded.default_model if self.seeded else None,
        )

    @property
    def comfyui_url(self) -> str:
        return self.env["COMFYUI_URL"]

    def start(self) -> None:
        """Bring everything up and fill what is empty; returns when a request would be served."""
        if self.own_comfyui_url:
            seed.ask(self.own_comfyui_url)
        self._told(f"Postgres, Valkey, S3 and {'your' if self.own_comfyui_url else 'a stand-in for'} ComfyUI")
        self.supervisor.start(*self._servers())
        self._adopt()
        for name in migrations.migrate(self.env.get("MIGRATIONS_DATABASE_URL") or self.env["DATABASE_URL"]):
            self._told(f"migration {name}")
        self._told("the Broker and the functions")
        self.supervisor.start(self._broker(), *(self.function(name) for name in (*VERBS, *BESIDE)))
        self.seeded = seed.seed(comfyui_url=self.own_comfyui_url)
        self.scaler = autoscaler.Autoscaler(
            autoscaler.read(ROOT / "keda" / "scaledjob.yaml"),
            redis_url=self.env["REDIS_URL"],
            state=self.state,
            env=self.env,
            most=self._gpus,
        )
        self.supervisor.tend(self.scaler)
        clock = ticker.read(ROOT / "k8s" / "sweep.yaml")
        self.supervisor.tend(ticker.Ticker(clock, self.url("sweep"), every_s=1))
        self.state.announce(
            {
                "api_url": self.api_url,
                "broker_url": self.broker_url,
                "default_model": self.seeded.default_model,
                "own_comfyui_url": self.own_comfyui_url,
            }
        )

    def stop(self) -> None:
        """Stop everything this house started, and let go of the state folder."""
        self.supervisor.stop()
        self.state.close()
        self._leave()

    def _servers(self) -> list[Service]:
        """The servers to start; their addresses join the environment."""
        started: list[Service] = []
        if "DATABASE_URL" not in self.env:
            db = postgres.prepare(self.state)
            self.env |= {"DATABASE_URL": db.app_url, "MIGRATIONS_DATABASE_URL": db.owner_url}
            self.admin_database_url = db.admin_url
            started.append(db.service)
        if "REDIS_URL" not in self.env:
            waiting_room = valkey.prepare(self.state)
            self.env["REDIS_URL"] = waiting_room.url
            started.append(waiting_room.service)
        if "S3_ENDPOINT_URL" not in self.env:
            cellar = s3.prepare(self.state)
            self.env |= {
                "S3_ENDPOINT_URL": cellar.endpoint_url,
                "S3_ACCESS_KEY_ID": cellar.access_key,
                "S3_SECRET_ACCESS_KEY": cellar.secret_key,
            }
            started.append(cellar.service)
        if "COMFYUI_URL" not in self.env:
            started.append(self._standin())
        own = {
            "K_SINK": self.broker_url,
            "SERVICE_SECRETS": self.state.secret("service"),
            "DEV_IDENTITY": f"{seed.USER}:{seed.ROLE}",
            "POOLS": f"default*{self._gpus}",
        }
        self.env = HASTE | own | self.env
        return started

    def _adopt(self) -> None:
        """From here on this process is configured like the functions it started, until they stop."""
        self._environ_before = dict(os.environ)
        os.environ.update(self.env)
        _look_anew()

    def _leave(self) -> None:
        """This process is configured as it was."""
        if self._environ_before is not None:
            os.environ.clear()
            os.environ.update(self._environ_before)
            _look_anew()

    def _standin(self) -> Service:
        folder = self.state.folder("comfyui")
        self.env["COMFYUI_URL"] = self.url("comfyui")
        self.env["COMFYUI_MODELS_DIR"] = str(folder / "models")
        return self._service(
            "comfyui",
            "functions.standin",
            *("--host", "127.0.0.1", "--port", str(self.state.port("comfyui"))),
            *("--base-directory", str(folder), "--step-ms", str(self._step_ms)),
            ready=f"{self.url('comfyui')}/system_stats",
        )

    def _broker(self) -> Service:
        services = (f"{name}={self.url(name)}" for name in (*VERBS, "deadletter"))
        return self._service(
            "broker",
            "functions.stack.broker",
            *("--port", str(self.state.port("broker"))),
            *("--triggers", str(ROOT / "k8s" / "triggers.yaml")),
            *(part for service in services for part in ("--service", service)),
            *("--dead-letters", str(self.state.root / "dead-letters.jsonl")),
            *("--backoff-scale", str(BACKOFF_SCALE)),
            ready=f"{self.broker_url}/healthz",
        )

    def function(self, name: str) -> Service:
        """The service that runs one of the functions."""
        program = Path(sys.executable).parent / "functions-framework"
        return Service(
            name=name,
            argv=(str(program), "--asgi", "--host", "127.0.0.1", "--port", str(self.state.port(name))),
            env=self.env | {"FUNCTION_TARGET": name, "FUNCTION_SOURCE": str(SERVE), "HOME": str(self.state.root)},
            log=self.state.log(name),
            pid_file=self.state.pid_file(name),
            ready=speaks_http(f"{self.url(name)}/healthz"),
        )

    def _service(self, name: str, module: str, *arguments: str, ready: str) -> Service:
        return Service(
            name=name,
            argv=(sys.executable, "-m", module, *arguments),
            env=self.env,
            cwd=ROOT,
            log=self.state.log(name),
            pid_file=self.state.pid_file(name),
            ready=speaks_http(ready),
        )

    def url(self, name: str) -> str:
        """Where a service of this house is reached: a function, `api`, `broker` or `comfyui`."""
        return f"http://127.0.0.1:{self.state.port(name)}"


def _look_anew() -> None:
    """Let this process read its settings again, and connect to what they name."""
    for cached in (settings.config, database.engine, queue.client, queue.script, storage.client):
        cached.cache_clear()
