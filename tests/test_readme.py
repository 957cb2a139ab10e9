"""What the README promises is what the code does."""

import re
import subprocess
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from functions.ctl import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_configuration_table_is_the_one_the_code_prints() -> None:
    assert CliRunner().invoke(app, ["settings"]).stdout.strip() in README, "paste what `vsgen settings` prints"


def test_every_make_target_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", README))
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert named <= set(re.findall(r"make ([a-z]+) ", listed))
    assert {"run", "demo", "test", "check", "migrate"} <= named


def test_every_library_we_ask_for_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[>=<]", one)[0].strip() for one in asked}
    explained = README[README.index("## Libraries") :]
    assert {name for name in names if name not in explained} == set()
