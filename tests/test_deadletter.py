"""What the Broker could not deliver: kept once, told to nobody who should not know, replayed, dropped."""

import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from click.testing import Result
from live import Stack, eventually
from typer.testing import CliRunner

from functions.adapters import dead_letters, identity, postgres
from functions.adapters.dead_letters import Kept, Wanted, Whole
from functions.config import config
from functions.ctl import app
from functions.domain.errors import Unavailable
from functions.domain.job import State
from functions.stack.platform import ISSUER

SECRET = "a heron nobody may read of"


def url(stack: Stack, function: str) -> str:
    """Where the stack's Broker finds this function."""
    return f"http://127.0.0.1:{stack.house.state.port(function)}"


class Sink:
    """The dead letter sink, as a Broker uses it; `destination` is this test's own."""

    def __init__(self, stack: Stack) -> None:
        self.url = url(stack, "deadletter")
        self.destination = f"http://generator-{uuid.uuid4().hex[:8]}.svc"

    def post(self, *, data: bytes = b"{}", content_type: str | None = "application/json", **attributes: str) -> int:
        """Deliver an event in binary mode; gives the status it is answered with."""
        event = {
            "specversion": "1.0",
            "id": uuid.uuid4().hex,
            "source": "/a/test",
            "type": "visionsuit.generator.job.submitted.v1",
            "knativeerrordest": self.destination,
            "knativeerrorcode": "503",
            "knativeerrordata": "bm8=",
            "knativearrivaltime": "2026-03-01T12:00:00Z",
        }
        headers = {f"ce-{name}": value for name, value in (event | attributes).items()}
        if content_type:
            headers["content-type"] = content_type
        answer = requests.post(self.url, data=data, headers=headers, timeout=10)
        assert answer.content == b""
        return answer.status_code

    def letters(self, *, settled: bool = True) -> list[Kept]:
        with postgres.transaction() as tx:
            return dead_letters.find(tx, Wanted(destination=self.destination, settled=settled), limit=100)

    def only(self) -> Whole:
        """The one letter there is, with all it holds."""
        [letter] = self.letters()
        with postgres.transaction() as tx:
            whole = dead_letters.get(tx, letter.number)
        assert whole
        return whole


@pytest.fixture
def sink(stack: Stack) -> Sink:
    return Sink(stack)


def vsgen(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dead-letters", *map(str, arguments)])


def said(result: Result) -> Any:
    return json.loads(result.stdout)


# --- what is kept ---


def test_an_event_a_function_refuses_reaches_the_operator_with_who_refused_it_and_how(stack: Stack, user: str) -> None:
    job_id = f"job-{uuid.uuid4().hex[:12]}"
    data = {"artifact_id": f"{job_id}-00", "decision": "discard"}
    stack.speaking_for(user).emit("review.decided", subject=job_id, data=data).raise_for_status()

    def arrived() -> list[Kept]:
        with postgres.transaction() as tx:
            wanted = Wanted(type="review.decided", destination=url(stack, "review"))
            return [one for one in dead_letters.find(tx, wanted, limit=1000) if one.subject == job_id]

    [letter] = eventually(arrived)
    assert (letter.type, letter.error_code, letter.times) == ("visionsuit.generator.review.decided.v1", "422", 1)
    assert letter.standing == "open"


def test_a_letter_that_comes_again_is_the_same_letter_counted_up(sink: Sink) -> None:
    for code in ("503", "422"):
        assert sink.post(id="one", knativeerrorcode=code) == 204
    letter = sink.only()
    assert (letter.times, letter.error_code) == (2, "422")
    assert letter.last_at > letter.first_at


def test_an_event_that_two_functions_could_not_take_is_two_letters(sink: Sink) -> None:
    for part in ("/a", "/b"):
        assert sink.post(id="one", knativeerrordest=sink.destination + part) == 204
    assert [one.destination.removeprefix(sink.destination) for one in sink.letters()] == ["/a", "/b"]


def test_whatever_an_event_holds_it_is_kept(sink: Sink) -> None:
    assert (
        sink.post(data=b"\xff\x00 no text", content_type="image/png", type="somebody.elses", subject="%00%C3%A9") == 204
    )
    letter = sink.only()
    assert (letter.data, letter.type, letter.subject) == (b"\xff\x00 no text", "somebody.elses", "\ufffdé")
    assert letter.attributes["datacontenttype"] == "image/png"


def test_an_event_of_great_length_under_a_long_name_is_kept(sink: Sink) -> None:
    assert sink.post(id="x" * 6000, data=b"x" * (512 * 1024)) == 204
    assert len(sink.only().data or b"") == 512 * 1024


def test_an_event_in_structured_mode_is_kept_as_well(sink: Sink) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "count": 3, "last": True, "data": {"a": 1}}
    answer = requests.post(
        sink.url,
        data=json.dumps(event | {"knativeerrordest": sink.destination}),
        headers={"content-type": "application/cloudevents+json"},
        timeout=10,
    )
    assert answer.status_code == 204
    letter = sink.only()
    assert json.loads(letter.data or b"") == {"a": 1}
    assert (letter.attributes["count"], letter.attributes["last"]) == ("3", "true")


def test_what_the_broker_adds_is_no_part_of_the_event(sink: Sink) -> None:
    sink.post()
    letter = sink.only()
    assert not [name for name in letter.attributes if name.startswith("knative")]
    assert letter.error_data == "bm8="


def test_what_is_no_event_is_answered_400_and_what_is_too_long_422(sink: Sink) -> None:
    assert requests.post(sink.url, data=b"hello", timeout=10).status_code == 400
    assert sink.post(data=b"x" * (1024 * 1024 + 1)) == 422
    assert sink.letters() == []


def test_the_log_names_the_letter_and_nothing_it_held(stack: Stack, sink: Sink) -> None:
    name = uuid.uuid4().hex
    sink.post(id=name, data=SECRET.encode(), authtoken="eyJ.token")
    log = stack.house.state.log("deadletter")
    [line] = eventually(lambda: [one for one in log.read_text().splitlines() if name in one])
    assert json.loads(line)["level"] == "ERROR"
    assert sink.destination in line
    assert SECRET not in log.read_text()
    assert "eyJ.token" not in log.read_text()


# --- what operators see ---


def test_a_list_never_shows_what_a_letter_held_and_show_does_but_for_the_token(sink: Sink) -> None:
    sink.post(data=SECRET.encode(), authtoken="eyJ.token")
    number = sink.only().number
    for arguments in (
        ["list", "--destination", sink.destination],
        ["list", "--destination", sink.destination, "--json"],
    ):
        listed = vsgen(*arguments)
        assert listed.exit_code == 0
        assert str(number) in listed.stdout
        assert SECRET not in listed.stdout
    for arguments in (["show", number], ["show", number, "--json"]):
        shown = vsgen(*arguments)
        assert SECRET in shown.stdout
        assert "eyJ.token" not in shown.stdout


def test_letters_are_found_by_type_destination_and_age(sink: Sink) -> None:
    sink.post(type="visionsuit.generator.job.debited.v1")
    sink.post(type="somebody.elses")

    def types(*arguments: str) -> list[str]:
        found = said(vsgen("list", "--destination", sink.destination, "--json", *arguments))
        return [one["type"] for one in found["letters"]]

    assert types() == ["visionsuit.generator.job.debited.v1", "somebody.elses"]
    assert types("--type", "job.debited") == ["visionsuit.generator.job.debited.v1"]
    assert types("--type", "somebody.elses") == ["somebody.elses"]
    assert types("--older-than", "1h") == []
    assert len(types("--older-than", "0s")) == 2


def test_a_long_list_is_cut_and_says_so(sink: Sink) -> None:
    for _ in range(3):
        sink.post()
    cut = said(vsgen("list", "--destination", sink.destination, "--limit", 2, "--json"))
    assert (len(cut["letters"]), cut["more"]) == (2, True)


def test_a_letter_that_is_not_there_is_an_error(stack: Stack) -> None:
    for command in ("show", "replay", "drop"):
        assert vsgen(command, 2**40).exit_code == 1


@pytest.mark.parametrize("arguments", [[], ["1", "--all"], ["--all", "--type", "x"], ["--older-than", "soon"]])
def test_choosing_nothing_or_twice_is_refused(stack: Stack, arguments: list[str]) -> None:
    for command in ("replay", "drop"):
        assert vsgen(command, *arguments).exit_code == 2


# --- replay ---


def test_a_request_that_found_no_function_becomes_a_job_when_it_is_replayed_and_one_only(
    stack: Stack, sink: Sink, user: str, job_id: str
) -> None:
    # The very event the platform signed, as a Broker would bring it here after its last try at submit.
    core_api, data = stack.speaking_for(user), json.dumps(stack.request()).encode()
    token = identity.sign(core_api.actor, secret=core_api.secret, issuer=ISSUER, data=data, jti=uuid.uuid4().hex)
    wish = {"type": "visionsuit.generator.job.requested.v1", "subject": job_id, "authtoken": token}
    assert sink.post(data=data, **wish) == 204
    number = sink.only().number

    assert said(vsgen("replay", number, "--json")) == {"replayed": [number], "problems": {}, "stopped": None}
    stack.wait(job_id, State.AWAITING_REVIEW)
    balance = stack.balance(user)
    assert balance < 100
    assert sink.letters(settled=False) == []

    assert vsgen("replay", number).exit_code == 0  # heard before: nothing happens again
    assert stack.balance(user) == balance
    assert sink.only().standing == "replayed"


def test_a_replayed_letter_that_comes_back_waits_again(sink: Sink) -> None:
    sink.post(id="one", type="nobody.hears.this")
    assert vsgen("replay", "--destination", sink.destination).stdout.strip() == "1 replayed"
    sink.post(id="one", type="nobody.hears.this")
    assert [(one.standing, one.times) for one in sink.letters()] == [("open", 2)]


def test_a_letter_that_comes_back_before_it_is_marked_as_replayed_still_waits(sink: Sink) -> None:
    sink.post(id="one")
    before = sink.only()
    sink.post(id="one")
    with postgres.transaction() as tx:
        dead_letters.mark_replayed(tx, before)
    assert sink.only().standing == "open"


def test_more_letters_than_a_page_holds_are_all_replayed(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.adapters.postgres.PAGE", 2)
    for _ in range(5):
        sink.post(type="nobody.hears.this")
    assert vsgen("replay", "--destination", sink.destination).stdout.strip() == "5 replayed"


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Broker's address that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take the port meanwhile
        monkeypatch.setenv("K_SINK", f"http://127.0.0.1:{taken.getsockname()[1]}")
        config.cache_clear()
        yield
    monkeypatch.undo()
    config.cache_clear()


def test_without_a_broker_nothing_is_marked_and_the_exit_code_says_so(sink: Sink, no_broker: None) -> None:
    sink.post()
    tried = vsgen("replay", "--destination", sink.destination, "--json")
    assert tried.exit_code == 1
    assert said(tried)["replayed"] == []
    assert "cannot be reached" in said(tried)["stopped"]
    assert sink.only().standing == "open"


def test_the_brokers_no_is_an_error_that_names_the_letter(sink: Sink) -> None:
    sink.post()
    letter = sink.only()
    broken = Whole(**vars(letter) | {"attributes": {"specversion": "1.0", "id": "1"}})
    with pytest.raises(Unavailable, match=f"400 to letter {letter.number}"):
        dead_letters.post_again(broken)


# --- drop ---


def test_dropping_empties_a_letter_for_good(sink: Sink) -> None:
    sink.post(id="one", data=SECRET.encode(), authtoken="eyJ.token")
    number = sink.only().number
    assert vsgen("drop", number).exit_code == 0
    letter = sink.only()
    assert (letter.standing, letter.data, letter.attributes, letter.error_data) == ("dropped", None, {}, "")
    assert vsgen("replay", number).exit_code == 1
    assert vsgen("drop", number).exit_code == 1

    sink.post(id="one", data=SECRET.encode())
    again = sink.only()
    assert (again.standing, again.data, again.times) == ("dropped", None, 2)


def test_dropping_by_filter_leaves_the_rest(sink: Sink) -> None:
    sink.post(type="somebody.elses")
    sink.post()
    assert vsgen("drop", "--destination", sink.destination, "--type", "somebody.elses").exit_code == 0
    assert {one.type: one.standing for one in sink.letters()} == {
        "somebody.elses": "dropped",
        "visionsuit.generator.job.submitted.v1": "open",
    }
