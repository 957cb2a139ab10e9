"""How vsgen answers: text for people, with `--json` one JSON object for machines."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="one JSON object instead of text")]


def say(record: dict[str, Any], as_json: bool, text: str) -> None:
    """The answer, to stdout; moments as ISO 8601."""
    typer.echo(json.dumps(record, default=str) if as_json else text)


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Rows under their headings, each column as wide as it must be."""
    lines = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def ledger_table(rows: list[tuple[str, int, int, str]]) -> str:
    """Lines of an account: when, the change with its sign, the balance it left, and what it was for."""
    changes, balances = (max(len(f"{row[1]:+}") for row in rows), max(len(f"{row[2]}") for row in rows))
    return "\n".join(f"{at}  {change:+{changes}}  {left:{balances}}  {about}" for at, change, left, about in rows)


def age(text: str) -> timedelta:
    """A length of time as people write it: 30m, 12h, 7d."""
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}.get(text[-1:])
    if unit is None or not text[:-1].isdigit() or len(text) > 7:
        raise typer.BadParameter(f"{text!r} is no age like 30m, 12h or 7d")
    return timedelta(**{unit: int(text[:-1])})


def ago(text: str | None) -> datetime | None:
    """The moment that lies so long back; None where nobody asked for one."""
    return datetime.now(UTC) - age(text) if text else None


def minute(moment: datetime) -> str:
    """A moment as people read it, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
