"""How vsgen answers: text for people, with `--json` one JSON object for machines."""

import json
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
