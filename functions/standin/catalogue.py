"""What the server says of its nodes: `/object_info`, with the lists of files as they are on disk now.

The data is that of ComfyUI 0.3.64 for the nodes of ordinary graphs, plus three probes that wait, report progress or
fail on demand.
"""

import copy
import json
from functools import cache
from typing import Any

from functions.standin.files import DATA, Folders

Info = dict[str, Any]

LISTS = {
    ("CheckpointLoaderSimple", "ckpt_name"): "checkpoints",
    ("LoraLoader", "lora_name"): "loras",
    ("LoraLoaderModelOnly", "lora_name"): "loras",
    ("VAELoader", "vae_name"): "vae",
    ("ControlNetLoader", "control_net_name"): "controlnet",
    ("UNETLoader", "unet_name"): "diffusion_models",
    ("DualCLIPLoader", "clip_name1"): "text_encoders",
    ("DualCLIPLoader", "clip_name2"): "text_encoders",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("LoadImage", "image"): "input",
    ("LoadImageMask", "image"): "input",
}
"""Inputs whose choices are files, and the folder kind they come from."""

STEPPING = {"KSampler", "KSamplerAdvanced", "ProbeProgress"}
"""Nodes that report progress and so can be interrupted, or struck by a fault, between two steps."""


@cache
def _recorded() -> dict[str, Info]:
    recorded: dict[str, Info] = json.loads((DATA / "object_info.json").read_text())
    return recorded


class Catalogue:
    """The node types this server knows."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def __contains__(self, class_type: object) -> bool:
        return class_type in _recorded()

    def names(self) -> list[str]:
        """Every node type, in the order `/object_info` answers them."""
        return list(_recorded())

    def info(self, class_type: str) -> Info:
        """One node's entry of `/object_info`, its file lists read from disk; KeyError for an unknown type."""
        info = copy.deepcopy(_recorded()[class_type])
        for name, spec in info["input"]["required"].items():
            if (kind := LISTS.get((class_type, name))) is not None:
                self._fill(spec, self.choices(kind))
        return info

    def outputs(self, class_type: str) -> tuple[str, ...]:
        """The types a node gives back, slot by slot; a tuple, since a wrong slot's error text says so."""
        return tuple(_recorded()[class_type]["output"])

    def is_output(self, class_type: str) -> bool:
        """Whether running this node is an end in itself (SaveImage, PreviewImage)."""
        return bool(_recorded()[class_type]["output_node"])

    def choices(self, kind: str) -> list[str]:
        """The names an input of this folder kind may take."""
        if kind == "input":
            return self._folders.images()
        return self._folders.models(kind) + (["pixel_space"] if kind == "vae" else [])

    @staticmethod
    def _fill(spec: list[Any], choices: list[str]) -> None:
        if spec[0] == "COMBO":  # the newer way to declare a choice
            spec[1]["options"] = choices
        else:
            spec[0] = choices
