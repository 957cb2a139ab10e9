"""deadletter: whatever the Broker could not deliver is kept for an operator, who replays or drops it.

hears   any CloudEvent, with knativeerrordest, knativeerrorcode and knativeerrordata: it is the dead letter sink of
        the Broker and of every Trigger
says    nothing; `generator_dead_letters` counts what waits here

Replaying posts the event under the source and id it always had, so whoever did take it finds it in its inbox and does
nothing. A request that was refused (`job.rejected`) stays refused: the refusal was its effect. A signed request can be
replayed until its token expires.

Jobs that no retry could help are no events, and not here: `operate` and `vsgen jobs dead` see to those.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from functions.adapters import dead_letters, postgres
from functions.adapters.dead_letters import Kept, Letter, Wanted

log = logging.getLogger(__name__)
#: What a Broker adds on the way begins with this: the error, the moment of arrival, the hops left.
BROKERS_OWN = "knative"


def read(attributes: Mapping[str, Any], data: bytes) -> Letter:
    """The event as the Broker brought it, parted into what it was and what the Broker says of it."""
    named = {name: _text(value) for name, value in attributes.items() if value is not None}
    return Letter(
        attributes={name: value for name, value in named.items() if not name.startswith(BROKERS_OWN)},
        data=data,
        destination=named.get("knativeerrordest", ""),
        error_code=named.get("knativeerrorcode", ""),
        error_data=named.get("knativeerrordata", ""),
    )


def deadletter(tx: Connection, letter: Letter) -> int:
    """Keep the letter, once however often it comes; gives its number. The log hears that it is here, and nothing of
    what it holds."""
    number = dead_letters.keep(tx, letter)
    log.error(
        "dead letter %d: %s (%s) was answered %s by %s",
        number,
        letter.attributes["type"],
        letter.attributes["id"],
        letter.error_code or "nothing",
        letter.destination or "nobody we know",
    )
    return number


def each(wanted: Wanted) -> Iterator[Kept]:
    """Every such letter, in the order they came. One that comes back while this walks is not met twice."""
    return postgres.each(lambda tx, **page: dead_letters.find(tx, wanted, **page))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one letter; `problem` is None when it went well."""

    number: int
    problem: str | None = None


def replay(numbers: Iterable[int]) -> Iterator[Outcome]:
    """Post these letters again, one by one. Unavailable at the first that the Broker does not take: the next would
    fare no better.

    A letter is marked once the Broker has it. A crash in between posts it twice, which every listener bears.
    """
    for number in numbers:
        with postgres.transaction() as tx:
            letter = dead_letters.get(tx, number)
        if letter is None:
            yield Outcome(number=number, problem="there is no such letter")
        elif letter.data is None:
            yield Outcome(number=number, problem="it was dropped, and what it held is gone")
        else:
            dead_letters.post_again(letter)
            with postgres.transaction() as tx:
                dead_letters.mark_replayed(tx, letter)
            log.info("dead letter %d was replayed", number)
            yield Outcome(number=number)


def drop(numbers: Iterable[int]) -> Iterator[Outcome]:
    """Empty these letters for good, one by one; the record of them stays."""
    for number in numbers:
        with postgres.transaction() as tx:
            dropped = dead_letters.drop(tx, number)
        yield Outcome(number=number, problem=None if dropped else "there is no such letter, or it was dropped before")


def _text(value: object) -> str:
    """An attribute's canonical string: structured mode brings booleans and numbers as they are."""
    return str(value).lower() if isinstance(value, bool) else str(value)
