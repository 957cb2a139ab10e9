"""vsgen: the operator's command line. `--help` everywhere, `--json` for machines, exit code 0 only when all is well."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from functions import (
    ctl_credits,
    ctl_dead_letters,
    ctl_gpu,
    ctl_host,
    ctl_jobs,
    ctl_ledger,
    ctl_models,
    ctl_queue,
    ctl_sla,
    ctl_storage,
    ctl_workflows,
)
from functions.adapters.migrations import MigrationRefused
from functions.config import SETTINGS, Misconfigured, config
from functions.ctl_say import Json, say
from functions.domain.errors import InsufficientCredits, Rejected, Unavailable

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)
app.add_typer(ctl_credits.app, name="credits")
app.add_typer(ctl_dead_letters.app, name="dead-letters")
app.add_typer(ctl_gpu.app, name="gpu")
app.add_typer(ctl_jobs.app, name="jobs")
app.add_typer(ctl_ledger.app, name="ledger")
app.add_typer(ctl_models.app, name="models")
app.add_typer(ctl_queue.app, name="queue")
app.add_typer(ctl_storage.storage, name="storage")
app.add_typer(ctl_storage.retain, name="retention")
app.add_typer(ctl_workflows.app, name="workflows")
app.command()(ctl_host.preflight)
app.command()(ctl_host.baseline)
app.command()(ctl_sla.sla)
SCHEMAS = Path(__file__).parent / "schemas"


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring the database schema up to date. Safe to run twice, and refused when it would go backwards."""
    from functions.adapters import migrations

    done = migrations.migrate(config().migrations_database_url or config().need("database_url"))
    say({"applied": done}, as_json, "\n".join(done) or "the schema is up to date")


@app.command()
def sweep(as_json: Json = False) -> None:
    """Mend now what the clock would mend: lapsed leases, unheard events, jobs that Redis has forgotten."""
    from functions.sweep import sweep as mend

    done = mend()
    say(done, as_json, ", ".join(f"{count} {what}" for what, count in done.items()))


@app.command()
def settings(as_json: Json = False) -> None:
    """Every setting, its default and what it is for, as the README's table shows them."""
    rows = [{"name": n.upper(), "default": s.default, "about": s.metadata["about"]} for n, s in SETTINGS.items()]
    table = ["| variable | default | what it is |", "| --- | --- | --- |"]
    table += [f"| `{r['name']}` | {'' if r['default'] is None else r['default']} | {r['about']} |" for r in rows]
    say({"settings": rows}, as_json, "\n".join(table))


@app.command()
def schemas(
    folder: Annotated[Path, typer.Argument(help="where to write one JSON Schema an event type")] = SCHEMAS,
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


def main() -> None:
    """The command line, with what an operator can mend said in one line."""
    try:
        app()
    except (Misconfigured, Rejected, InsufficientCredits, Unavailable, MigrationRefused) as error:
        typer.echo(f"vsgen: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
