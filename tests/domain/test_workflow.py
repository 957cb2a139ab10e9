"""What a workflow document must be, and what binding a job's values into it does to the graph."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import functions.workflows
from functions.domain.errors import Rejected
from functions.domain.graph import Graph, Lora
from functions.domain.workflow import Workflow, bind, digest, resolve

TXT2IMG = (Path(functions.workflows.__path__[0]) / "txt2img" / "1.0.0.json").read_bytes()
REQUIRED: dict[str, Any] = {"prompt": "a heron at dawn", "model": "sdxl.safetensors", "seed": 7}
PREFIX = "job-1/image"


@pytest.fixture(scope="module")
def txt2img() -> Workflow:
    return Workflow.parse(TXT2IMG)


def document(**changes: Any) -> dict[str, Any]:
    """A small valid document, with top-level keys replaced."""
    whole: dict[str, Any] = {
        "id": "tiny",
        "version": "1.0.0",
        "graph": {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "color": 0}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
        },
        "parameters": {"width": {"type": "integer", "bind": [["1", "width"]]}},
        "outputs": ["2"],
    }
    return copy.deepcopy(whole | changes)


def refusal(raw: Any) -> Rejected:
    with pytest.raises(Rejected) as refused:
        Workflow.parse(raw if isinstance(raw, bytes | str) else json.dumps(raw))
    assert refused.value.code == "workflow_invalid"
    return refused.value


def shape(graph: Graph) -> dict[str, Any]:
    """Everything about a graph but its leaves: nodes, classes, input names and links."""
    return {
        node_id: (
            node["class_type"],
            {name: value if isinstance(value, list) else None for name, value in node["inputs"].items()},
        )
        for node_id, node in graph.items()
    }


# --- the document ---


def test_the_shipped_workflow_takes_every_field_of_a_job(txt2img: Workflow) -> None:
    assert (txt2img.id, txt2img.version, txt2img.outputs) == ("txt2img", "1.0.0", ("9",))
    assert set(txt2img.parameters) == {
        *("prompt", "negative_prompt", "model", "seed", "steps", "cfg"),
        *("sampler", "scheduler", "width", "height", "images"),
    }


def test_the_shipped_defaults_are_bound_when_a_job_gives_only_what_is_required(txt2img: Workflow) -> None:
    graph = bind(txt2img, REQUIRED, filename_prefix=PREFIX)
    sampler = graph["3"]["inputs"]
    assert sampler["steps"] == 28
    assert (sampler["sampler_name"], sampler["scheduler"]) == ("dpmpp_2m", "karras")
    assert graph["5"]["inputs"] == {"width": 1024, "height": 1024, "batch_size": 1}
    assert graph["4"]["inputs"]["ckpt_name"] == "sdxl.safetensors"
    assert graph["6"]["inputs"]["text"] == "a heron at dawn"
    assert graph["7"]["inputs"]["text"] == ""


def test_a_digest_is_the_sha256_of_the_bytes_as_stored() -> None:
    assert digest(TXT2IMG) == hashlib.sha256(TXT2IMG).hexdigest()
    assert digest(TXT2IMG) != digest(TXT2IMG + b"\n")


@pytest.mark.parametrize("broken", [b"{", b"[]", b'{"id": NaN}', b"\xff", b"[" * 100_000])
def test_a_document_that_is_no_json_object_is_refused(broken: bytes) -> None:
    refusal(broken)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "Not A Slug"}, "id"),
        ({"version": "1.0"}, "version"),
        ({"outptus": []}, "outptus"),
        ({"outputs": []}, "outputs"),
        ({"outputs": ["9"]}, "outputs"),
        ({"outputs": ["1"]}, "outputs"),
        ({"vram_gib": -1}, "vram_gib"),
        ({"lora_slot": {"clip": ["1", 0]}}, "lora_slot"),
        ({"lora_slot": {"model": ["7", 0]}}, "lora_slot.model"),
        ({"lora_slot": {"model": ["1", 0], "clip": ["1", 0]}}, "lora_slot"),
        ({"graph": {}}, "graph"),
        ({"parameters": {"w": {"type": "integer"}}}, "parameters.w"),
        ({"parameters": {"w": {"type": "integr", "bind": [["1", "width"]]}}}, "parameters.w"),
        ({"parameters": {"w": {"type": "integer", "bind": [["1", "width"]], "minimun": 1}}}, "parameters.w"),
        (
            {"parameters": {"w": {"type": "integer", "bind": [["1", "width"]], "default": "big"}}},
            "parameters.w",
        ),
        ({"parameters": {"w": {"type": "choice", "bind": [["1", "width"]]}}}, "parameters.w"),
        (
            {"parameters": {"w": {"type": "number", "bind": [["1", "width"]], "multiple_of": 8}}},
            "parameters.w",
        ),
    ],
)
def test_a_malformed_document_is_refused_with_the_place_named(changes: dict[str, Any], field: str) -> None:
    assert refusal(document(**changes)).field == field


def test_a_binding_to_a_missing_node_is_refused() -> None:
    refused = refusal(document(parameters={"width": {"type": "integer", "bind": [["8", "width"]]}}))
    assert "node 8" in refused.detail


def test_a_binding_to_a_missing_input_is_refused() -> None:
    refused = refusal(document(parameters={"width": {"type": "integer", "bind": [["1", "wdith"]]}}))
    assert "1.wdith" in refused.detail


def test_a_binding_onto_a_link_is_refused() -> None:
    refused = refusal(document(parameters={"picture": {"type": "text", "bind": [["2", "images"]]}}))
    assert "which is a link" in refused.detail


def test_two_parameters_on_one_input_are_refused() -> None:
    both = {name: {"type": "integer", "bind": [["1", "width"]]} for name in ("width", "breadth")}
    assert "set the same input" in refusal(document(parameters=both)).detail


@pytest.mark.parametrize("link", [["7", 0], ["1"], ["1", "0"], ["1", -1], ["1", True], [1, 0], ["1", 0, 0]])
def test_a_link_that_leads_nowhere_or_is_malformed_is_refused(link: list[Any]) -> None:
    raw = document()
    raw["graph"]["2"]["inputs"]["images"] = link
    assert refusal(raw).field == "graph.2.images"


@pytest.mark.parametrize("missing", ["class_type", "inputs"])
def test_a_node_without_class_type_or_inputs_is_refused(missing: str) -> None:
    raw = document()
    del raw["graph"]["1"][missing]
    assert refusal(raw).field == "graph.1"


def test_a_graph_that_runs_in_a_circle_is_refused() -> None:
    raw = document()
    raw["graph"]["1"]["inputs"]["color"] = ["2", 0]
    assert "circle" in refusal(raw).detail


# --- values ---


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("steps", 0, "parameter_out_of_range"),
        ("steps", 201, "parameter_out_of_range"),
        ("steps", 2.5, "parameter_invalid"),
        ("steps", True, "parameter_invalid"),
        ("steps", "20", "parameter_invalid"),
        ("cfg", float("nan"), "parameter_invalid"),
        ("cfg", 10**400, "parameter_invalid"),
        ("cfg", 40.5, "parameter_out_of_range"),
        ("width", 1001, "parameter_out_of_range"),
        ("height", 4096, "parameter_out_of_range"),
        ("images", 9, "parameter_out_of_range"),
        ("seed", -1, "parameter_out_of_range"),
        ("seed", 2**64, "parameter_out_of_range"),
        ("seed", 1.0, "parameter_invalid"),
        ("seed", "seven", "parameter_invalid"),
        ("seed", "\u0667", "parameter_invalid"),  # a digit to str.isdigit(), not to anyone else
        ("sampler", "euler_b", "parameter_out_of_range"),
        ("sampler", ["euler", 0], "parameter_invalid"),
        ("model", "", "parameter_invalid"),
        ("prompt", "", "parameter_out_of_range"),
        ("prompt", "x" * 10_001, "parameter_out_of_range"),
        ("prompt", ["4", 0], "parameter_invalid"),
        ("prompt", {"text": "x"}, "parameter_invalid"),
        ("prompt", None, "parameter_invalid"),
        ("prompt", "half of a pair \ud83d", "parameter_invalid"),
        ("prompt", "nul\0", "parameter_invalid"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_field(
    txt2img: Workflow, name: str, value: object, code: str
) -> None:
    with pytest.raises(Rejected) as refused:
        bind(txt2img, REQUIRED | {name: value}, filename_prefix=PREFIX)
    assert (refused.value.code, refused.value.field) == (code, name)


def test_a_refusal_never_repeats_the_prompt(txt2img: Workflow) -> None:
    with pytest.raises(Rejected) as refused:
        bind(txt2img, REQUIRED | {"prompt": "secret " * 2000}, filename_prefix=PREFIX)
    assert "secret" not in str(refused.value)


def test_an_unknown_value_is_refused(txt2img: Workflow) -> None:
    with pytest.raises(Rejected) as refused:
        bind(txt2img, REQUIRED | {"promt": "x"}, filename_prefix=PREFIX)
    assert (refused.value.code, refused.value.field) == ("parameter_unknown", "promt")


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_required_value_that_is_missing_is_refused(txt2img: Workflow, name: str) -> None:
    given_values = {key: value for key, value in REQUIRED.items() if key != name}
    with pytest.raises(Rejected) as refused:
        bind(txt2img, given_values, filename_prefix=PREFIX)
    assert (refused.value.code, refused.value.field) == ("parameter_missing", name)


def test_a_parameter_without_value_and_default_leaves_the_graph_as_it_is() -> None:
    graph = bind(Workflow.parse(json.dumps(document())), {}, filename_prefix=PREFIX)
    assert graph["1"]["inputs"]["width"] == 64


def test_one_parameter_can_set_several_inputs() -> None:
    both = {"side": {"type": "integer", "bind": [["1", "width"], ["1", "color"]]}}
    graph = bind(Workflow.parse(json.dumps(document(parameters=both))), {"side": 128}, filename_prefix=PREFIX)
    assert graph["1"]["inputs"] == {"width": 128, "color": 128}


def test_a_number_given_whole_binds_like_the_same_number_with_a_point(txt2img: Workflow) -> None:
    whole, point = (bind(txt2img, REQUIRED | {"cfg": cfg}, filename_prefix=PREFIX) for cfg in (7, 7.0))
    assert json.dumps(whole) == json.dumps(point)


@given(seed=st.integers(min_value=0, max_value=2**64 - 1), as_text=st.booleans())
def test_a_seed_arrives_exactly(seed: int, as_text: bool) -> None:
    graph = bind(Workflow.parse(TXT2IMG), REQUIRED | {"seed": str(seed) if as_text else seed}, filename_prefix=PREFIX)
    assert json.loads(json.dumps(graph))["3"]["inputs"]["seed"] == seed


@given(prompt=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_no_prompt_whatever_its_text_changes_the_structure(prompt: str) -> None:
    workflow = Workflow.parse(TXT2IMG)
    graph = bind(workflow, REQUIRED | {"prompt": prompt}, filename_prefix=PREFIX)
    assert graph["6"]["inputs"]["text"] == prompt
    assert shape(graph) == shape(workflow.graph)


@given(
    steps=st.integers(1, 200),
    cfg=st.floats(0, 40),
    loras=st.lists(st.builds(Lora, name=st.just("a.safetensors"), strength=st.floats(-2, 2)), max_size=12),
)
def test_binding_twice_gives_the_same_graph_and_leaves_the_workflow_alone(
    steps: int, cfg: float, loras: list[Lora]
) -> None:
    workflow = Workflow.parse(TXT2IMG)
    before = copy.deepcopy(workflow.graph)
    values = REQUIRED | {"steps": steps, "cfg": cfg}
    once, again = (bind(workflow, values, loras, filename_prefix=PREFIX) for _ in range(2))
    assert json.dumps(once) == json.dumps(again)
    assert workflow.graph == before


def test_resolving_tells_every_value_that_will_be_used(txt2img: Workflow) -> None:
    resolved = resolve(txt2img, REQUIRED | {"seed": "18446744073709551615", "cfg": 5})
    assert resolved["seed"] == 2**64 - 1
    assert resolved["cfg"] == 5.0
    assert resolved["steps"] == 28


# --- outputs ---


def test_every_output_saves_into_the_jobs_own_folder() -> None:
    raw = document(outputs=["2", "3"])
    raw["graph"]["3"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "y"}}
    graph = bind(Workflow.parse(json.dumps(raw)), {}, filename_prefix="job-9/2/image")
    assert [graph[node]["inputs"]["filename_prefix"] for node in ("2", "3")] == ["job-9/2/image"] * 2


@pytest.mark.parametrize("prefix", ["image", "../image", "a/../b", "/a/b", "a/%width%", "a/b.", "a//b", "a/", ""])
def test_a_prefix_that_shares_or_leaves_its_folder_is_refused(txt2img: Workflow, prefix: str) -> None:
    with pytest.raises(Rejected) as refused:
        bind(txt2img, REQUIRED, filename_prefix=prefix)
    assert refused.value.code == "filename_prefix_invalid"


# --- LoRAs ---


def test_loras_are_chained_and_everything_behind_the_slot_reads_the_last_one(txt2img: Workflow) -> None:
    loras = [Lora(name="a.safetensors", strength=0.8), Lora(name="b.safetensors", strength=-1)]
    graph = bind(txt2img, REQUIRED, loras, filename_prefix=PREFIX)
    assert graph["lora_1"]["class_type"] == "LoraLoader"
    assert graph["lora_1"]["inputs"] == {
        "model": ["4", 0],
        "clip": ["4", 1],
        "lora_name": "a.safetensors",
        "strength_model": 0.8,
        "strength_clip": 0.8,
    }
    assert graph["lora_2"]["inputs"]["model"] == ["lora_1", 0]
    assert graph["lora_2"]["inputs"]["clip"] == ["lora_1", 1]
    assert graph["3"]["inputs"]["model"] == ["lora_2", 0]
    assert [graph[node]["inputs"]["clip"] for node in ("6", "7")] == [["lora_2", 1]] * 2
    assert graph["8"]["inputs"]["vae"] == ["4", 2]


def test_a_graph_with_loras_is_itself_a_sound_graph(txt2img: Workflow) -> None:
    graph = bind(txt2img, REQUIRED, [Lora(name=f"{n}.safetensors") for n in range(12)], filename_prefix=PREFIX)
    assert len(graph) == 7 + 12
    Workflow.parse(json.dumps(document(graph=graph, outputs=["9"], parameters={})))


def test_a_lora_never_takes_the_id_of_a_node_that_is_there() -> None:
    raw = json.loads(TXT2IMG)
    raw["graph"]["lora_1"] = {"class_type": "EmptyImage", "inputs": {}}
    graph = bind(Workflow.parse(json.dumps(raw)), REQUIRED, [Lora(name="a")], filename_prefix=PREFIX)
    assert graph["lora_1"]["class_type"] == "EmptyImage"
    assert graph["3"]["inputs"]["model"] == ["lora_1_", 0]


def test_a_slot_without_clip_takes_loras_for_the_model_only() -> None:
    raw = json.loads(TXT2IMG) | {"lora_slot": {"model": ["4", 0]}}
    graph = bind(Workflow.parse(json.dumps(raw)), REQUIRED, [Lora(name="a")], filename_prefix=PREFIX)
    assert graph["lora_1"]["class_type"] == "LoraLoaderModelOnly"
    assert graph["lora_1"]["inputs"] == {"model": ["4", 0], "lora_name": "a", "strength_model": 1.0}
    assert graph["6"]["inputs"]["clip"] == ["4", 1]


@pytest.mark.parametrize(
    ("loras", "code"),
    [
        ([Lora(name="a")] * 13, "loras_too_many"),
        ([Lora(name="")], "lora_invalid"),
        ([Lora(name="a", strength=float("inf"))], "lora_invalid"),
    ],
)
def test_loras_that_cannot_be_chained_are_refused(txt2img: Workflow, loras: list[Lora], code: str) -> None:
    with pytest.raises(Rejected) as refused:
        bind(txt2img, REQUIRED, loras, filename_prefix=PREFIX)
    assert refused.value.code == code


def test_a_workflow_without_a_slot_refuses_loras() -> None:
    with pytest.raises(Rejected) as refused:
        bind(Workflow.parse(json.dumps(document())), {}, [Lora(name="a")], filename_prefix=PREFIX)
    assert refused.value.code == "loras_unsupported"
