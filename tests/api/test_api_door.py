"""The door itself: who may come in, with what, and how it says no."""

from collections.abc import Callable

import pytest
import requests
from caller import Caller, problem
from live import Stack

from functions.stack.house import House


def test_a_process_that_lives_says_so(stack: Stack) -> None:
    assert requests.get(f"{stack.api_url}/healthz", timeout=5).json() == {"status": "ok"}


def test_a_process_whose_servers_answer_is_ready(stack: Stack) -> None:
    answer = requests.get(f"{stack.api_url}/readyz", timeout=5)
    assert (answer.status_code, answer.json()["parts"]) == (200, {"postgres": "ok", "redis": "ok"})


def test_a_process_without_redis_lives_is_not_ready_and_says_what_is_missing(without_redis: str) -> None:
    assert requests.get(f"{without_redis}/healthz", timeout=5).ok
    answer = requests.get(f"{without_redis}/readyz", timeout=5)
    assert answer.status_code == 503
    assert answer.json()["parts"]["postgres"] == "ok"
    assert "cannot be reached" in answer.json()["parts"]["redis"]


def test_an_unknown_address_is_a_404_problem(caller: Caller) -> None:
    problem(caller.get("/v1/nothing"), 404, "not_found")


def test_a_wrong_method_is_a_405_problem_that_names_the_right_one(caller: Caller) -> None:
    answer = caller.session.put(f"{caller.url}/v1/quotes", timeout=5)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer ", "Basic YTpi", ""])
def test_a_header_that_is_no_token_of_the_platform_s_is_refused_with_401(stack: Stack, header: str) -> None:
    answer = requests.get(f"{stack.api_url}/v1/credits", headers={"Authorization": header}, timeout=5)
    problem(answer, 401, "token_invalid")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_user_id_is_the_platforms_own_as_long_as_it_is_short_and_printable(calling_as: Callable[..., Caller]) -> None:
    assert calling_as("Zoë Ünal/../7").get("/v1/credits").json()["user_id"] == "Zoë Ünal/../7"
    for unfit in ("", "a\0b", "a\nb", "x" * 129):
        problem(calling_as(unfit).get("/v1/credits"), 401, "token_invalid")


def test_without_a_token_one_is_whoever_the_machine_s_owner_named(house: House) -> None:
    said = requests.get(f"{house.api_url}/v1/credits", timeout=5).json()
    assert f"{said['user_id']}:{said['role']}" == house.env["DEV_IDENTITY"]


def test_a_body_above_64_kib_is_refused_with_413_and_not_repeated(stack: Stack, caller: Caller) -> None:
    answer = caller.post("/v1/jobs", stack.request(prompt="s3cret " * 150_000))
    problem(answer, 413, "too_large")
    assert "s3cret" not in answer.text


def test_a_body_whose_length_is_not_said_is_refused_as_soon_as_it_is_too_long(caller: Caller) -> None:
    pieces = (b"x" * 8192 for _ in range(64))
    answer = caller.session.post(
        f"{caller.url}/v1/jobs", data=pieces, headers={"Content-Type": "application/json"}, timeout=10
    )
    problem(answer, 413, "too_large")


def test_a_form_from_some_web_page_is_refused_with_415(caller: Caller) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = caller.session.post(
            f"{caller.url}/v1/jobs", data=b'{"prompt": "x"}', headers={"Content-Type": kind}, timeout=5
        )
        problem(answer, 415, "unsupported_media_type")


def test_broken_json_is_a_400_problem_that_names_the_position(caller: Caller) -> None:
    answer = caller.session.post(
        f"{caller.url}/v1/jobs", data=b'{"prompt": ', headers={"Content-Type": "application/json"}, timeout=5
    )
    assert "line 1 column" in problem(answer, 400, "invalid_json")["detail"]


def test_an_id_with_a_nul_in_it_is_simply_unknown(caller: Caller) -> None:
    problem(caller.get("/v1/jobs/a%00b"), 404, "unknown_job", "job_id")
    problem(caller.get("/v1/artifacts/a%00b"), 404, "unknown_artifact")


def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in(stack: Stack) -> None:
    page = requests.get(f"{stack.api_url}/", timeout=5)
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    again = requests.get(f"{stack.api_url}/", headers={"If-None-Match": page.headers["etag"]}, timeout=5)
    assert (again.status_code, again.content) == (304, b"")
    assert requests.get(f"{stack.api_url}/console.js", timeout=5).headers["content-type"].startswith("text/javascript")
    assert requests.get(f"{stack.api_url}/..%2fapp.py", timeout=5).status_code == 404
