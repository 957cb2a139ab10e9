"""Credits, quotes and options over REST: what there is to ask for, what it costs, and what is left."""

from caller import Caller, problem
from live import Stack

from functions.adapters import postgres, workflows
from functions.domain.job import State


def test_a_balance_is_what_the_statement_adds_up_to(stack: Stack, caller: Caller, user: str) -> None:
    for _ in range(2):
        stack.wait(caller.post("/v1/jobs", stack.request()).json()["id"], State.AWAITING_REVIEW)
    held = caller.get("/v1/credits").json()
    assert (held["user_id"], held["role"]) == (user, "CURATOR")
    first = caller.get("/v1/credits/transactions", params={"limit": 2}).json()
    rest = caller.get("/v1/credits/transactions", params={"cursor": first["next_cursor"]}).json()
    entries = first["transactions"] + rest["transactions"]
    assert [entry["reason"] for entry in entries] == ["debit", "debit", "grant"]
    assert sum(entry["change"] for entry in entries) == entries[0]["balance"] == held["balance"]
    assert rest["next_cursor"] is None


def test_a_quote_is_what_the_job_then_costs(stack: Stack, caller: Caller, user: str) -> None:
    request = stack.request(images=3, boost=2)
    quote = caller.post("/v1/quotes", request).json()
    assert quote["credits"] == sum(quote["terms"].values()) == 5
    assert (quote["balance"], quote["affordable"]) == (100, True)
    assert stack.balance(user) == 100, "a quote charges nothing"
    assert caller.post("/v1/jobs", request).json()["credits"] == quote["credits"]
    by_quote = caller.post("/v1/jobs", request | {"quote_id": quote["quote_id"]})
    assert by_quote.json()["credits"] == quote["credits"]


def test_a_quote_for_another_request_is_refused(stack: Stack, caller: Caller) -> None:
    quote = caller.post("/v1/quotes", stack.request()).json()
    request = stack.request(images=2, quote_id=quote["quote_id"])
    problem(caller.post("/v1/jobs", request), 422, "quote_mismatch", "quote_id")
    problem(caller.post("/v1/jobs", stack.request(quote_id="none")), 422, "unknown_quote", "quote_id")


def test_a_quote_says_when_the_credits_do_not_suffice(stack: Stack, stranger: Caller) -> None:
    quote = stranger.post("/v1/quotes", stack.request()).json()
    assert (quote["balance"], quote["affordable"]) == (0, False)


def test_a_quote_refuses_what_a_job_would(stack: Stack, caller: Caller) -> None:
    problem(caller.post("/v1/quotes", stack.request(model="nowhere")), 422, "unknown_model", "model")
    problem(caller.post("/v1/quotes", stack.request(seed="x")), 422, "seed_invalid", "seed")


def test_options_name_everything_a_request_may_say(stack: Stack, caller: Caller) -> None:
    options = caller.get("/v1/options").json()
    assert stack.model in [model["id"] for model in options["models"]]
    assert options["default_workflow"] in [workflow["id"] for workflow in options["workflows"]]
    assert options["pools"] and options["sizes"] and options["max_loras"] == 12
    with postgres.transaction() as tx:
        published = {workflow.id: workflow for workflow in workflows.all_newest(tx)}
    for workflow in options["workflows"]:
        assert {one["name"] for one in workflow["parameters"]} == published[workflow["id"]].parameters.keys()


def test_options_promise_no_more_than_a_request_may_hold(caller: Caller) -> None:
    [workflow] = [one for one in caller.get("/v1/options").json()["workflows"] if one["id"] == "txt2img"]
    parameters = {one["name"]: one for one in workflow["parameters"]}
    assert parameters["prompt"]["maximum"] == 4000, "the workflow would take more, a request would not"
    assert (parameters["width"]["maximum"], parameters["width"]["multiple_of"]) == (2048, 8)
    assert "euler" in parameters["sampler"]["choices"]
    assert not parameters["seed"]["required"], "an open seed is drawn"


def test_every_size_on_offer_is_taken(stack: Stack, caller: Caller) -> None:
    for size in caller.get("/v1/options").json()["sizes"]:
        request = stack.request(width=size["width"], height=size["height"])
        assert caller.post("/v1/quotes", request).status_code == 200
