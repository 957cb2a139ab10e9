"""Knowledge flows one way: doors -> verbs -> adapters -> domain -> the standard library. Read from the imports."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "functions"
#: Imported by the domain besides the standard library: it only names bounds.
BOUNDS = "annotated_types"
VERBS = {"submit", "debit", "dispatch", "complete", "review", "cancel", "sweep", "retention", "earn"}
#: One attempt at a render belongs to the runner, and is loaded after its claim.
RUNNER = {"render", "attempt", "prepare"}
#: What starts the whole house on one machine reads what its children will.
STARTS_CHILDREN = {"functions.local", "functions.stack.house"}
NAMES = {"environ", "environb", "getenv", "putenv"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """All that a module imports, wherever in it. `from a import b` counts as `a.b` where that is a module of ours."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: one module, one name"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in TREES else str(node.module) for name in whole}
    return found


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "functions"}


def layer(name: str) -> str:
    """`domain`, `adapters`, `api`, `stack`, `standin`; a module straight in the package is a layer of its own."""
    return name.split(".")[1] if "." in name else name


def inside(folder: str) -> list[str]:
    return [module for module in TREES if layer(module) == folder]


def breaches(modules: list[str], allowed: set[str]) -> dict[str, set[str]]:
    """Modules that know of a layer they must not know of."""
    found = {module: {name for name in ours(module) if layer(name) not in allowed} for module in modules}
    return {module: names for module, names in found.items() if names}


def test_the_domain_knows_itself_and_the_standard_library() -> None:
    assert inside("domain")
    assert breaches(inside("domain"), {"domain"}) == {}
    outside = {name.split(".")[0] for module in inside("domain") for name in imports(module)} - {"functions"}
    assert outside - sys.stdlib_module_names == {BOUNDS}


def test_the_domain_asks_neither_clock_nor_chance_nor_the_machine() -> None:
    outside = {name.split(".")[0] for module in inside("domain") for name in imports(module)}
    assert outside & {"time", "random", "secrets", "uuid", "os", "socket", "pathlib", "logging", "threading"} == set()


def test_adapters_know_the_domain_the_settings_and_each_other() -> None:
    assert inside("adapters")
    assert breaches(inside("adapters"), {"adapters", "domain", "config"}) == {}


def test_verbs_know_adapters_and_the_domain_and_not_each_other() -> None:
    verbs = [f"functions.{verb}" for verb in VERBS if f"functions.{verb}" in TREES]
    assert len(verbs) >= 7
    assert breaches(verbs, {"adapters", "domain", "config"}) == {}


def test_the_runner_knows_its_attempt_and_no_verb() -> None:
    runner = [f"functions.{name}" for name in RUNNER]
    assert breaches(runner, {"adapters", "domain", "config", "logs", *RUNNER}) == {}


def test_only_the_doors_know_verbs() -> None:
    knowing = {module for module in TREES for name in ours(module) if layer(name) in VERBS}
    assert knowing <= {"functions.serve", "functions.hear", "functions.ctl", "functions.ctl_storage"}


def test_rest_brings_events_to_hear_and_acts_to_operate_and_calls_no_verb_itself() -> None:
    assert inside("api")
    assert breaches(inside("api"), {"api", "adapters", "domain", "config", "hear", "operate", "logs"}) == {}


def test_settings_know_only_the_domain() -> None:
    assert breaches(["functions.config"], {"domain"}) == {}


def test_only_the_settings_read_the_environment() -> None:
    def reads(module: str) -> bool:
        return any(
            {alias.name for alias in node.names} & NAMES
            if isinstance(node, ast.ImportFrom) and node.module == "os"
            else isinstance(node, ast.Attribute) and node.attr in NAMES
            for node in ast.walk(TREES[module])
        )

    assert {module for module in TREES if reads(module)} - STARTS_CHILDREN == {"functions.config"}


@pytest.mark.parametrize("own", ["stack", "standin"])
def test_what_stands_in_for_a_cluster_is_known_to_nothing_that_runs_in_one(own: str) -> None:
    knowing = {module for module in TREES for name in ours(module) if layer(name) == own and layer(module) != own}
    assert knowing <= {"functions.local"}


def test_the_stand_in_for_comfyui_knows_nothing_of_ours() -> None:
    assert inside("standin")
    assert breaches(inside("standin"), {"standin"}) == {}


def test_nothing_imports_in_a_circle() -> None:
    graph = {module: ours(module) & set(TREES) - {module} for module in TREES}
    while free := {module for module, needs in graph.items() if not needs}:
        graph = {module: needs - free for module, needs in graph.items() if module not in free}
    assert graph == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = {m for m, tree in TREES.items() if tree.body and not ast.get_docstring(tree)}
    assert silent == set()


def test_what_comes_up_without_the_heavy_libraries_stays_so() -> None:
    """A claim must not wait for what only the work after it needs."""
    top = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for module in ("functions.render", "functions.adapters.queue", "functions.config", "functions.logs")
        for node in TREES[module].body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {str(name).split(".")[0] for name in top} & {"sqlalchemy", "boto3", "PIL", "pydantic", "requests"} == set()
