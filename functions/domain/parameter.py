"""A parameter: one named value a workflow takes, where it goes in the graph, and which values it allows.

Checking a value changes nothing but its spelling: a seed given as decimal text becomes the exact integer, and
a number becomes a float, so that equal requests bind to equal graphs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from functions.domain.errors import Rejected
from functions.domain.graph import invalid
from functions.domain.text import storable

MAX_SEED = 2**64 - 1  # KSampler's `seed` input in ComfyUI's /object_info

Value = str | int | float
#: Folders of ComfyUI's that model files lie in (folder_paths.py), under the same names in the models bucket.
FOLDERS = (
    *("checkpoints", "loras", "vae", "diffusion_models", "text_encoders"),
    *("upscale_models", "controlnet", "clip_vision"),
)


class Type(StrEnum):
    """What kind of value a parameter holds."""

    TEXT = "text"  # bounds count characters
    INTEGER = "integer"
    NUMBER = "number"  # kept as a float
    SEED = "seed"  # 0 .. 2**64-1, an integer or its decimal text
    CHOICE = "choice"  # one of `choices`
    MODEL = "model"  # a model file of one of FOLDERS, by the name it is known by
    IMAGE = "image"  # a picture that was generated here before, by its id


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One declared parameter.

    bind: (node id, input name) pairs that receive the value. minimum, maximum: bounds, both allowed; a text's
    bounds are lengths. default: used when a job gives no value; without one the graph's own value stays. folder: where
    a model's file lies.
    """

    name: str
    type: Type
    bind: tuple[tuple[str, str], ...]
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    default: Value | None = None
    choices: tuple[str, ...] | None = None
    required: bool = False
    folder: str | None = None

    @classmethod
    def parse(cls, name: str, raw: object) -> Self:
        """The parameter that a workflow document declares under `name`.

        Raises Rejected `workflow_invalid`, naming the parameter, when the declaration is malformed or its own
        default breaks its own bounds.
        """
        where = f"parameters.{name}"
        if not isinstance(raw, dict):
            raise invalid(f"parameter {name!r} must be an object", field=where)
        if unknown := sorted(raw.keys() - ALLOWED):
            raise invalid(f"parameter {name!r} has an unknown key {unknown[0]!r}", field=where)
        if raw.get("type") not in list(Type):
            raise invalid(f"parameter {name!r} needs a type: one of {', '.join(Type)}", field=where)
        choices = raw.get("choices")
        if choices is not None and not (isinstance(choices, list) and choices and all_text(choices)):
            raise invalid(f"the choices of {name!r} must be a list of texts", field=where)
        if raw["type"] == Type.CHOICE and not choices:
            raise invalid(f"parameter {name!r} is a choice without choices", field=where)
        folder = raw.get("folder", "checkpoints" if raw["type"] == Type.MODEL else None)
        if (folder in FOLDERS) != (raw["type"] == Type.MODEL):
            raise invalid(f"a model has a folder, one of {', '.join(FOLDERS)}, and nothing else has", field=where)
        parameter = cls(
            name=name,
            type=Type(raw["type"]),
            bind=_bindings(raw, name, where),
            minimum=_bound(raw, "minimum", where),
            maximum=_bound(raw, "maximum", where),
            multiple_of=_multiple(raw, where),
            choices=tuple(choices) if choices else None,
            default=raw.get("default"),
            required=raw.get("required", False) is True,
            folder=folder,
        )
        if parameter.default is not None:
            try:
                parameter.check(parameter.default)
            except Rejected as broken:
                raise invalid(f"the default of {name!r} is refused: {broken.detail}", field=where) from broken
        return parameter

    def check(self, value: object) -> Value:
        """The value as it goes into the graph.

        Raises Rejected with this parameter's name as field: `parameter_invalid` for a value of the wrong
        type, `parameter_out_of_range` for one outside the bounds or the choices. The value itself is not
        repeated: it may be a prompt.
        """
        accepted = self._typed(value)
        measured = len(accepted) if isinstance(accepted, str) else accepted
        unit = " characters" if isinstance(accepted, str) else ""
        if self.minimum is not None and measured < self.minimum:
            raise self._out_of_range(f"at least {self.minimum:g}{unit}")
        if self.maximum is not None and measured > self.maximum:
            raise self._out_of_range(f"at most {self.maximum:g}{unit}")
        if self.multiple_of is not None and measured % self.multiple_of:
            raise self._out_of_range(f"a multiple of {self.multiple_of}")
        if self.choices is not None and accepted not in self.choices:
            raise self._out_of_range(f"one of {', '.join(self.choices)}")
        return accepted

    def _typed(self, value: object) -> Value:
        match self.type, value:
            case Type.SEED, str() if value.isascii() and value.isdigit() and len(value) <= 20:
                return self._seed(int(value))
            case _, bool():  # Python counts True as an integer; JSON does not
                pass
            case Type.SEED, int():
                return self._seed(value)
            case Type.INTEGER, int():
                return value
            case Type.NUMBER, int() | float() if _finite(value):
                return float(value)
            case (Type.TEXT, str()) if storable(value):
                return value
            case ((Type.CHOICE | Type.MODEL | Type.IMAGE), str()) if value and storable(value):
                return value
        raise Rejected("parameter_invalid", f"{self.name} must be {WORDS[self.type]}", field=self.name)

    def _seed(self, value: int) -> int:
        if not 0 <= value <= MAX_SEED:
            raise self._out_of_range(f"between 0 and {MAX_SEED}")
        return value

    def _out_of_range(self, allowed: str) -> Rejected:
        return Rejected("parameter_out_of_range", f"{self.name} must be {allowed}", field=self.name)


ALLOWED = {"type", "bind", "minimum", "maximum", "multiple_of", "default", "choices", "required", "folder"}

WORDS = {
    Type.TEXT: "a text",
    Type.INTEGER: "a whole number",
    Type.NUMBER: "a number",
    Type.SEED: f"a whole number between 0 and {MAX_SEED}, or its decimal text",
    Type.CHOICE: "a text, one of the choices",
    Type.MODEL: "a model's name",
    Type.IMAGE: "a picture's id",
}


def all_text(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _bindings(raw: Mapping[str, Any], name: str, where: str) -> tuple[tuple[str, str], ...]:
    pairs = raw.get("bind")
    if not isinstance(pairs, list) or not pairs:
        raise invalid(f"parameter {name!r} is bound to nothing", field=where)
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all_text(pair)):
            raise invalid(f"a binding of {name!r} must be [node id, input name]", field=where)
    return tuple((node, field) for node, field in pairs)


def _bound(raw: Mapping[str, Any], key: str, where: str) -> float | None:
    bound = raw.get(key)
    if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float)):
        raise invalid(f"{key} must be a number", field=where)
    return bound


def _multiple(raw: Mapping[str, Any], where: str) -> int | None:
    multiple = raw.get("multiple_of")
    if multiple is not None and (type(multiple) is not int or multiple < 1 or raw["type"] != Type.INTEGER):
        raise invalid("multiple_of must be a whole number above 0, and only an integer has one", field=where)
    return multiple


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer too large for a float
        return False
