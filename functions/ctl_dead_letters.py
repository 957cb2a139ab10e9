"""vsgen dead-letters: events that the Broker could not deliver, and what is to become of them.

`list` never shows what an event held, because that may be a prompt; `show` does.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

import typer

from functions import deadletter
from functions.adapters import dead_letters, postgres
from functions.adapters.dead_letters import Wanted, Whole
from functions.config import config
from functions.ctl_say import Json, ago, minute, say, table
from functions.deadletter import Outcome
from functions.domain.errors import Unavailable

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)

Numbers = Annotated[list[int] | None, typer.Argument(help="letters by their number", show_default=False)]
Type = Annotated[str | None, typer.Option("--type", help="of this type: whole, or as short as job.submitted")]
Destination = Annotated[str | None, typer.Option(help="that this function, or part of a URL, could not take")]
OlderThan = Annotated[str | None, typer.Option(help="last heard of so long ago: 30m, 12h, 7d")]


@app.command("list")
def listing(
    type_: Type = None,
    destination: Destination = None,
    older_than: OlderThan = None,
    all_: Annotated[bool, typer.Option("--all", help="replayed and dropped ones as well")] = False,
    limit: Annotated[int, typer.Option(min=1, help="how many at the most")] = 100,
    as_json: Json = False,
) -> None:
    """Letters that wait for somebody, in the order they came."""
    found = list(islice(deadletter.each(_wanted(type_, destination, older_than, settled=all_)), limit + 1))
    more, letters = len(found) > limit, found[:limit]
    rows = [
        (
            one.number,
            one.standing,
            one.type,
            one.subject,
            one.destination,
            one.error_code,
            one.times,
            minute(one.last_at),
        )
        for one in letters
    ]
    head = ("number", "standing", "type", "subject", "destination", "code", "times", "last at")
    text = table(head, [*rows]) if rows else "no dead letters"
    records = [asdict(one) | {"standing": one.standing} for one in letters]
    say({"letters": records, "more": more}, as_json, f"{text}\n... and more: raise --limit" if more else text)


@app.command()
def show(number: Annotated[int, typer.Argument(help="the letter's number")], as_json: Json = False) -> None:
    """One letter with all it held. That may be a prompt: mind who reads along."""
    with postgres.transaction() as tx:
        letter = dead_letters.get(tx, number)
    if letter is None:
        typer.echo(f"vsgen: there is no dead letter {number}", err=True)
        raise typer.Exit(1)
    record = asdict(letter) | {"standing": letter.standing, "data": None} | _data(letter)
    # The token would let whoever reads this ask in its user's name.
    record["attributes"] = {name: value for name, value in letter.attributes.items() if name != "authtoken"}
    say(record, as_json, "\n".join(f"{name:12} {value}" for name, value in record.items() if value not in (None, "")))


@app.command()
def replay(
    numbers: Numbers = None,
    type_: Type = None,
    destination: Destination = None,
    older_than: OlderThan = None,
    all_: Annotated[bool, typer.Option("--all", help="every letter that waits")] = False,
    as_json: Json = False,
) -> None:
    """Post letters to the Broker again, under the source and id they had. Who has heard one before does nothing."""
    config().need("k_sink")
    chosen = _chosen(numbers, type_, destination, older_than, all_)
    _work("replayed", deadletter.replay, chosen, as_json)


@app.command()
def drop(
    numbers: Numbers = None,
    type_: Type = None,
    destination: Destination = None,
    older_than: OlderThan = None,
    all_: Annotated[bool, typer.Option("--all", help="every letter that waits")] = False,
    as_json: Json = False,
) -> None:
    """Empty letters for good. The record that they came stays."""
    chosen = _chosen(numbers, type_, destination, older_than, all_)
    _work("dropped", deadletter.drop, chosen, as_json)


def _chosen(
    numbers: list[int] | None, type_: str | None, destination: str | None, older_than: str | None, all_: bool
) -> Iterable[int]:
    """The numbers given, or those of the open letters that fit; saying nothing chooses nothing."""
    filtered = any((type_, destination, older_than))
    if bool(numbers) + filtered + all_ != 1:
        raise typer.BadParameter("give numbers, or a filter (--type, --destination, --older-than), or --all")
    if numbers:
        return numbers
    return (letter.number for letter in deadletter.each(_wanted(type_, destination, older_than)))


def _work(
    done_to: str, work: Callable[[Iterable[int]], Iterator[Outcome]], numbers: Iterable[int], as_json: bool
) -> None:
    """Do it, and tell what became of each; exit code 1 unless all went well."""
    outcomes: list[Outcome] = []
    stopped = None
    try:
        for outcome in work(numbers):
            outcomes.append(outcome)
    except Unavailable as error:
        stopped = str(error)
    done = [one.number for one in outcomes if one.problem is None]
    problems = {one.number: one.problem for one in outcomes if one.problem is not None}
    lines = [f"{len(done)} {done_to}", *(f"{number}: {problem}" for number, problem in problems.items())]
    if stopped:
        lines.append(f"stopped: {stopped}; what was not {done_to} waits as before")
    say({done_to: done, "problems": problems, "stopped": stopped}, as_json, "\n".join(lines))
    if problems or stopped:
        raise typer.Exit(1)


def _wanted(type_: str | None, destination: str | None, older_than: str | None, *, settled: bool = False) -> Wanted:
    until = ago(older_than)
    return Wanted(type=type_, destination=destination, until=until, settled=settled)


def _data(letter: Whole) -> dict[str, Any]:
    """What the event held, as text where it is text; nothing once it was dropped."""
    if letter.data is None:
        return {}
    try:
        return {"data": letter.data.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(letter.data).decode()}
