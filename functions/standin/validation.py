"""Is this graph acceptable? The answer `POST /prompt` gives, in ComfyUI's own shapes and words.

Only nodes an output depends on are checked, but every node's class must exist. Values are coerced in place
("20" becomes 20), and the coerced graph is what runs and what the PNG keeps.
"""

import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from functions.standin.catalogue import Catalogue
from functions.standin.files import Folders
from functions.standin.graph import Graph

Error = dict[str, Any]
COERCIONS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
MAX_CHOICES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """outputs: node ids that may run; error: the refusal when there is none; node_errors: what was wrong, by node."""

    outputs: list[str]
    error: Error | None
    node_errors: dict[str, Any]


def validate(graph: Graph, catalogue: Catalogue, folders: Folders, *, targets: Iterable[str] | None) -> Verdict:
    """The verdict on a graph; `targets` narrows the outputs to run.

    A graph that is no object raises TypeError, which becomes a 500 as on the real server.
    """
    outputs: list[str] = []
    wanted = None if targets is None else set(targets)
    for node_id in graph:
        if "class_type" not in graph[node_id]:
            text = "Cannot execute because a node is missing the class_type property."
        elif (class_type := graph[node_id]["class_type"]) not in catalogue:
            text = f"Cannot execute because node {class_type} does not exist."
        else:
            if catalogue.is_output(str(class_type)) and (wanted is None or node_id in wanted):
                outputs.append(node_id)
            continue
        return _refused("invalid_prompt", text, f"Node ID '#{node_id}'")
    if not outputs:
        return _refused("prompt_no_outputs", "Prompt has no outputs", "")
    return _judge(graph, outputs, _Inspection(graph, catalogue, folders))


def _judge(graph: Graph, outputs: list[str], inspection: "_Inspection") -> Verdict:
    good: list[str] = []
    top_reasons: list[Error] = []
    node_errors: dict[str, Any] = {}
    for output in outputs:
        try:
            fine = inspection.node(output)
        except Exception as error:  # noqa: BLE001 - the real server reports whatever a broken graph provokes
            inspection.found[output] = [_exception(error)]
            fine = False
        if fine:
            good.append(output)
            continue
        top_reasons += inspection.found[output]
        for node_id, reasons in inspection.found.items():
            if reasons:
                entry = {
                    "errors": reasons,
                    "dependent_outputs": [],
                    "class_type": graph[node_id]["class_type"],
                }
                node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)
    if good:
        return Verdict(outputs=good, error=None, node_errors=node_errors)
    details = "\n".join(f"{reason['message']}: {reason['details']}" for reason in top_reasons)
    refusal = _refused("prompt_outputs_failed_validation", "Prompt outputs failed validation", details)
    return Verdict(outputs=[], error=refusal.error, node_errors=node_errors)


def _refused(kind: str, message: str, details: str) -> Verdict:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return Verdict(outputs=[], error=error, node_errors={})


def _exception(error: Exception, *, inner: Error | None = None) -> Error:
    told = {
        "exception_type": type(error).__name__,
        "traceback": traceback.format_tb(error.__traceback__),
    }
    if inner is None:
        return _error("exception_during_validation", "Exception when validating node", str(error), **told)
    told |= {"exception_message": str(error)} | inner
    return _error("exception_during_inner_validation", "Exception when validating inner node", str(error), **told)


class _Inspection:
    """One look through a graph; a node is judged once however many outputs need it."""

    def __init__(self, graph: Graph, catalogue: Catalogue, folders: Folders) -> None:
        self.found: dict[str, list[Error]] = {}
        self._fine: dict[str, bool] = {}
        self._open: set[str] = set()
        self._graph, self._catalogue, self._folders = graph, catalogue, folders

    def node(self, node_id: str) -> bool:
        """Whether a node and all upstream of it are fine; its own errors go to `found`."""
        if node_id in self._fine:
            return self._fine[node_id]
        if node_id in self._open:
            return False  # a cycle: refused without a reason, as recorded
        self._open.add(node_id)
        given = self._graph[node_id]["inputs"]
        info = self._catalogue.info(self._graph[node_id]["class_type"])
        declared = info["input"].get("required", {}) | info["input"].get("optional", {})
        errors: list[Error] = []
        fine = True
        for name, spec in declared.items():
            kind, config = spec[0], (spec[1] if len(spec) > 1 else {})
            if name not in given:
                if name in info["input"].get("required", {}):
                    errors.append(_error("required_input_missing", "Required input is missing", name, input_name=name))
            elif isinstance(given[name], list):
                fine &= self._link(name, given[name], kind, config, errors)
            else:
                self._value(name, given, kind, config, errors)
        self._image(node_id, given, errors)
        self._open.discard(node_id)
        self.found[node_id] = errors
        self._fine[node_id] = fine and not errors
        return self._fine[node_id]

    def _link(self, name: str, link: list[Any], kind: Any, config: Error, errors: list[Error]) -> bool:
        if len(link) != 2:
            text = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            extra = {"input_name": name, "input_config": [kind, config], "received_value": link}
            errors.append(_error("bad_linked_input", text, name, **extra))
            return False
        received = self._catalogue.outputs(self._graph[link[0]]["class_type"])[link[1]]
        if not _fits(received, kind):
            details = f"{name}, received_type({received}) mismatch input_type({kind})"
            extra = {"input_config": [kind, config], "received_type": received, "linked_node": link}
            text = "Return type mismatch between linked nodes"
            errors.append(_error("return_type_mismatch", text, details, input_name=name, **extra))
            return False
        try:
            return self.node(link[0])
        except Exception as error:  # noqa: BLE001 - see above: whatever a broken graph provokes is reported
            told = {"input_name": name, "input_config": [kind, config], "linked_node": link}
            self.found[link[0]] = [_exception(error, inner=told)]
            self._fine[link[0]] = False
            return False

    def _value(self, name: str, given: Error, kind: Any, config: Error, errors: list[Error]) -> None:
        value = given[name]
        told = {"input_name": name, "input_config": [kind, config], "received_value": value}
        if isinstance(kind, str) and kind in COERCIONS:
            try:
                value = COERCIONS[kind](value)
            except (TypeError, ValueError, OverflowError) as error:
                text = f"Failed to convert an input value to a {kind} value"
                details = f"{name}, {value}, {error}"
                errors.append(_error("invalid_input_type", text, details, **told, exception_message=str(error)))
                return
            given[name] = told["received_value"] = value
        if config.get("image_upload"):
            return  # the node's own check judges it, below
        if "min" in config and value < config["min"]:
            text = f"Value {value} smaller than min of {config['min']}"
            errors.append(_error("value_smaller_than_min", text, name, **told))
        elif "max" in config and value > config["max"]:
            text = f"Value {value} bigger than max of {config['max']}"
            errors.append(_error("value_bigger_than_max", text, name, **told))
        elif isinstance(kind, list) or kind == "COMBO":
            choices = config.get("options", []) if kind == "COMBO" else kind
            if value not in choices:
                short = len(choices) <= MAX_CHOICES_SHOWN
                told["input_config"] = told["input_config"] if short else None
                shown = str(choices) if short else f"(list of length {len(choices)})"
                details = f"{name}: '{value}' not in {shown}"
                errors.append(_error("value_not_in_list", "Value not in list", details, **told))

    def _image(self, node_id: str, given: Error, errors: list[Error]) -> None:
        if not self._graph[node_id]["class_type"].startswith("LoadImage") or "image" not in given:
            return
        if not self._folders.annotated(str(given["image"]), self._folders.input).exists():
            details = f"image - Invalid image file: {given['image']}"
            text = "Custom validation failed for node"
            errors.append(_error("custom_validation_failed", text, details, input_name="image"))


def _error(kind: str, message: str, details: str, **extra_info: Any) -> Error:
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


def _fits(received: object, wanted: object) -> bool:
    if not isinstance(received, str) or not isinstance(wanted, str):
        return received == wanted
    return "*" in (received, wanted) or set(received.split(",")) <= set(wanted.split(","))
