"""What flows along the links of a graph: small descriptions in place of tensors.

A picture is not computed until it is saved; until then it is a description, and everything that shaped it upstream
is in its digest. Equal inputs, equal digest, equal pixels.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from functions.standin.graph import digest


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A model, a CLIP, a VAE: something only its name and content tell apart."""

    kind: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Words a sampler is steered by."""

    words: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture a sampler painted; `digest` covers every input that shaped it."""

    words: str
    seed: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Plain:
    """One colour, 0xRRGGBB."""

    color: int


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A picture read from a file."""

    path: Path
    sha256: str


Subject = Scene | Plain | Stored


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A batch of images or latents: what they show, how large, how many."""

    subject: Subject
    width_px: int
    height_px: int
    batch: int = 1
    inverted: bool = False

    def __str__(self) -> str:
        return f"tensor(shape=[{self.batch}, {self.height_px}, {self.width_px}, 3])"

    def sized(self, *, width_px: int, height_px: int) -> "Pictures":
        """The same pictures at another size."""
        return replace(self, width_px=width_px, height_px=height_px)


Value = Thing | Conditioning | Pictures | str | int | float | bool | None


def mixed(value: object, *more: object) -> str:
    """A digest of a value and what was done to it."""
    return digest(str(value) if isinstance(value, Path) else repr(value), *(repr(item) for item in more))
