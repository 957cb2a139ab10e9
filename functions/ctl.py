"""vsgen: the operator's command line. `--help` everywhere, `--json` for machines, exit code 0 only when all is well."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from functions.adapters.migrations import MigrationRefused
from functions.config import SETTINGS, Misconfigured, config
from functions.domain.errors import Unavailable

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)
SCHEMAS = Path(__file__).parent / "schemas"
Json = Annotated[bool, typer.Option("--json", help="one JSON object instead of text")]


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring the database schema up to date. Safe to run twice, and refused when it would go backwards."""
    from functions.adapters import migrations

    done = migrations.migrate(config().migrations_database_url or config().need("database_url"))
    _say({"applied": done}, as_json, "\n".join(done) or "the schema is up to date")


@app.command()
def sweep(as_json: Json = False) -> None:
    """Mend now what the clock would mend: lapsed leases, unheard events, jobs that Redis has forgotten."""
    from functions.sweep import sweep as mend

    done = mend()
    _say(done, as_json, ", ".join(f"{count} {what}" for what, count in done.items()))


models_app = typer.Typer(no_args_is_help=True, help="Checkpoints and LoRAs that requests may name.")
app.add_typer(models_app, name="models")


@models_app.command("sync")
def sync_models(as_json: Json = False) -> None:
    """Make known what lies in the models bucket under checkpoints/, loras/ and vae/. Nothing is copied or renamed."""
    from functions.adapters import models, postgres

    with postgres.transaction() as tx:
        found = models.discover(tx)
    _say({"discovered": found}, as_json, f"{found} new or replaced")


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """Every model that is known, with its place and what is known of its content."""
    from functions.adapters import models, postgres

    with postgres.transaction() as tx:
        known = [model for kind in models.KINDS for model in models.all_of(tx, kind)]
    lines = [f"{m.kind}/{m.name}  {m.object_key or 'in ComfyUI'}  {(m.sha256 or 'not read yet')[:12]}" for m in known]
    _say({"models": [vars(model) for model in known]}, as_json, "\n".join(lines) or "none: try `vsgen models sync`")


@app.command()
def settings(as_json: Json = False) -> None:
    """Every setting, its default and what it is for, as the README's table shows them."""
    rows = [{"name": n.upper(), "default": s.default, "about": s.metadata["about"]} for n, s in SETTINGS.items()]
    table = ["| variable | default | what it is |", "| --- | --- | --- |"]
    table += [f"| `{r['name']}` | {'' if r['default'] is None else r['default']} | {r['about']} |" for r in rows]
    _say({"settings": rows}, as_json, "\n".join(table))


@app.command()
def schemas(
    folder: Annotated[Path, typer.Argument(help="where to write one JSON Schema an event type")] = Path(
        "functions/schemas"
    ),
    check: Annotated[bool, typer.Option(help="write nothing; exit 1 when a file is not what the code says")] = False,
) -> None:
    """Write the JSON Schema of every event's data, from the code."""
    from functions.adapters import shapes

    wrong = []
    folder.mkdir(parents=True, exist_ok=True)
    for type_, schema in shapes.schemas().items():
        path, text = folder / f"{type_}.json", json.dumps(schema, indent=2, sort_keys=True) + "\n"
        if not path.exists() or path.read_text() != text:
            wrong.append(path.name)
            if not check:
                path.write_text(text)
    if check and wrong:
        typer.echo(f"not what the code says: {', '.join(wrong)}; run `vsgen schemas`", err=True)
        raise typer.Exit(1)
    typer.echo(f"{len(wrong)} written" if not check else "all schemas are what the code says")


def _say(record: dict[str, Any], as_json: bool, text: str) -> None:
    typer.echo(json.dumps(record) if as_json else text)


def main() -> None:
    """The command line, with what an operator can mend said in one line."""
    try:
        app()
    except (Misconfigured, Unavailable, MigrationRefused) as error:
        typer.echo(f"vsgen: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
