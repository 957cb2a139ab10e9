"""Somebody who calls the REST API, and what they make of a refusal."""

from typing import Any

import requests


class Caller:
    """Somebody with a token; paths are the API's own."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.session = requests.Session()
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=30, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=30, **options)

    def delete(self, path: str) -> requests.Response:
        return self.session.delete(self.url + path, timeout=30)


def problem(answer: requests.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The problem in an answer, once it is known to be this one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["status"], said["code"], said.get("field")) == (status, status, code, field)
    assert said["title"] and said["detail"] and said["type"].endswith(f":{code}")
    return said
