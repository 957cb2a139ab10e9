"""The platform beside the local stack: emits signed events as VisionSuit's Core API does, and reads the REST API."""

import json
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

import requests

from functions.adapters import broker, identity
from functions.config import Config
from functions.domain.event import TYPE_PREFIX, TYPE_SUFFIX, Actor

ISSUER = Config().token_issuer
SOURCE = "/visionsuit/core-api"
TIMEOUT_S = 30


class Refused(Exception):
    """The REST API said no; the text is its problem's detail, `code` what to look up."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem))
        self.problem = problem
        self.code = str(problem.get("code", ""))


@dataclass(frozen=True, kw_only=True)
class CoreAPI:
    """VisionSuit, as far as the generator can tell. `actor` is the user it speaks for."""

    api_url: str
    broker_url: str
    secret: str
    default_model: str | None = None
    actor: Actor = Actor(user_id="demo", role="CURATOR")  # noqa: RUF009  a frozen value

    def speaking_for(self, user_id: str, role: str = "CURATOR") -> Self:
        """The same platform, speaking for another user."""
        return replace(self, actor=Actor(user_id=user_id, role=role))

    @property
    def token(self) -> str:
        """A bearer token for the REST API."""
        return identity.sign(self.actor, secret=self.secret, issuer=ISSUER)

    def emit(
        self,
        name: str,
        *,
        subject: str,
        data: dict[str, Any],
        id: str | None = None,
        jti: str | None = None,
        authtoken: str | None = None,
    ) -> requests.Response:
        """Sign an event and post it to the Broker; gives the Broker's answer."""
        body = json.dumps(data).encode()
        letter = broker.Envelope(
            id=id or str(uuid.uuid4()),
            source=SOURCE,
            type=f"{TYPE_PREFIX}{name}{TYPE_SUFFIX}",
            subject=subject,
            time=datetime.now(UTC),
            data=body,
        )
        token = authtoken or identity.sign(
            self.actor, secret=self.secret, issuer=ISSUER, data=body, jti=jti or str(uuid.uuid4())
        )
        headers = broker.headers(letter) | {"ce-authtoken": token}
        return requests.post(self.broker_url, data=body, headers=headers, timeout=TIMEOUT_S)

    def ask(self, request: dict[str, Any], *, job_id: str | None = None) -> str:
        """Ask for a picture by event; gives the job's id, which the platform chooses."""
        job_id = job_id or f"job-{uuid.uuid4().hex[:12]}"
        self.emit("job.requested", subject=job_id, data=request, id=f"{job_id}:job.requested").raise_for_status()
        return job_id

    def decide(self, job_id: str, artifact_id: str, decision: str, collection_id: str | None = None) -> None:
        """Decide about a picture by event."""
        data = {"artifact_id": artifact_id, "decision": decision, "collection_id": collection_id}
        self.emit("review.decided", subject=job_id, data=data).raise_for_status()

    def cancel(self, job_id: str) -> None:
        """Call a job off by event."""
        self.emit("job.cancel_requested", subject=job_id, data={}).raise_for_status()

    def rest(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A call to the REST API; gives its JSON, Refused when it is a problem."""
        answer = requests.request(
            method,
            f"{self.api_url}{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=TIMEOUT_S,
        )
        found: dict[str, Any] = answer.json()
        if not answer.ok:
            raise Refused(found)
        return found

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The job as the REST API tells it; None while there is none."""
        try:
            return self.rest("GET", f"/v1/jobs/{job_id}")
        except Refused as no:
            if no.problem.get("status") == 404:
                return None
            raise
