"""The published description of the API, generated from the code that serves it."""

from collections.abc import Iterator
from typing import Any

import pytest

from functions.api.app import make

PATHS = {
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/v1/quotes": {"post"},
    "/v1/jobs": {"get", "post"},
    "/v1/jobs/{job_id}": {"get", "delete"},
    "/v1/jobs/{job_id}/place": {"get"},
    "/v1/queue": {"get"},
    "/v1/reviews": {"get", "post"},
    "/v1/admin/storage": {"get"},
    "/v1/artifacts/{artifact_id}": {"get"},
    "/v1/artifacts/{artifact_id}/content": {"get"},
    "/v1/artifacts/{artifact_id}/thumbnail": {"get"},
    "/v1/artifacts/{artifact_id}/link": {"get"},
    "/v1/artifacts/{artifact_id}/history": {"get"},
    "/v1/credits": {"get"},
    "/v1/credits/transactions": {"get"},
    "/v1/options": {"get"},
    "/v1/admin/queue": {"get"},
    "/v1/admin/queue/acts": {"get"},
    "/v1/admin/pools": {"get", "put"},
    "/v1/admin/pools/{pool}": {"put"},
    "/v1/admin/users": {"get"},
    "/v1/admin/users/{user_id}/block": {"put", "delete"},
    "/v1/admin/dead-letters": {"get"},
    "/v1/admin/dead-letters/{job_id}": {"get"},
    "/v1/admin/dead-letters/requeue": {"post"},
    "/v1/admin/dead-letters/drop": {"post"},
    "/v1/admin/sla": {"get"},
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make().openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_path_is_described(document: dict[str, Any]) -> None:
    described = {path: set(methods) for path, methods in document["paths"].items()}
    assert PATHS.items() <= described.items()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in place, reference
            place = place[part]


def test_every_operation_says_what_it_answers_and_how_it_refuses(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation.get("summary") and operation.get("description"), name
        if "health" in operation["tags"]:
            continue
        assert operation["security"], f"{name} needs a token and does not say so"
        assert {"401", "422", "500", "503"} <= operation["responses"].keys(), name
        for status, response in operation["responses"].items():
            assert ("application/problem+json" in response.get("content", {})) == (int(status) >= 400), (name, status)


def test_bodies_are_described_with_their_bounds_and_without_room_for_unknown_fields(document: dict[str, Any]) -> None:
    for path, shape in {"/v1/jobs": "JobRequest", "/v1/quotes": "JobRequest", "/v1/reviews": "ReviewRequest"}.items():
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert content["application/json"]["schema"]["$ref"] == f"#/components/schemas/{shape}"
    request = document["components"]["schemas"]["JobRequest"]
    assert request["additionalProperties"] is False
    assert request["properties"]["prompt"]["maxLength"] == 4000


def test_the_idempotency_key_is_described(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/v1/jobs"]["post"]["parameters"]
    assert "Idempotency-Key" in {parameter["name"] for parameter in parameters}
