"""Model references: the words by which a user names a model.

| reference | what it is |
|---|---|
| `demo` | SmolLM2-135M-Instruct in 4 bits, from a package on the Python index |
| `Qwen/Qwen2.5-0.5B@main` | a model on the Hugging Face hub, with an optional revision |
| `./folder` | a local folder with `config.json` and safetensors |
| `model.gguf` | a GGUF file, converted once |
| `tiny:llama@0` | a random model of a family with a seed, for trying things out |
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from microtome.errors import ModelNotFound, nearest
from microtome.models.tiny import TINY_FAMILIES

KINDS_OF_REFERENCE = 'demo, org/name[@revision] on the Hugging Face hub, a local folder, a .gguf file, or "tiny:family[@seed]"'
_HUB = re.compile(r"(?P<name>\w[\w.-]*(/\w[\w.-]*)?)(@(?P<revision>[\w./-]+))?")
_TINY = re.compile(r"tiny:(?P<name>\w+)(@(?P<revision>\d+))?")


@dataclass(frozen=True)
class ModelRef:
    """Which model is meant; `str(ref)` reads back as the same reference."""

    kind: Literal["demo", "hub", "folder", "gguf", "tiny"]
    name: str
    """Hub name, path, or family."""
    revision: str | None = None
    """Hub: branch, tag or commit. Tiny: the seed."""

    def __str__(self) -> str:
        prefix = "tiny:" if self.kind == "tiny" else ""
        return f"{prefix}{self.name}" + ("" if self.revision is None else f"@{self.revision}")

    def to_json(self) -> str:
        return str(self)

    @classmethod
    def from_json(cls, value: object) -> "ModelRef":
        """The inverse of `to_json`."""
        return parse_ref(str(value))


def parse_ref(text: str) -> ModelRef:
    """What `text` names, by its form alone (whether a folder or file is there is looked at, the hub is not asked).

    Raises `ModelNotFound` for a path where nothing is and for what has no form of a reference.
    """
    if text == "demo":
        return ModelRef("demo", "demo")
    if text.startswith("tiny:"):
        return _tiny(text)
    path = Path(text).expanduser()
    if text.lower().endswith(".gguf") or path.is_file():
        return _existing("gguf", text, path, is_there=path.is_file())
    if (text and path.is_dir()) or text.startswith(("/", ".", "~")) or text.endswith("/"):
        return _existing("folder", text, path, is_there=path.is_dir())
    match = _HUB.fullmatch(text)
    if match is None:
        raise ModelNotFound(f'"{text}" is not a model reference.', got=text, wanted=KINDS_OF_REFERENCE, do=nearest(text, ["demo"]))
    return ModelRef("hub", match["name"], match["revision"])


def _tiny(text: str) -> ModelRef:
    match = _TINY.fullmatch(text)
    if match is None or match["name"] not in TINY_FAMILIES:
        options = [f"tiny:{family}" for family in TINY_FAMILIES]
        raise ModelNotFound(f'there is no tiny model "{text}".', got=text, wanted="tiny:family[@seed]", do=nearest(text, options))
    return ModelRef("tiny", match["name"], match["revision"])


def _existing(kind: Literal["folder", "gguf"], text: str, path: Path, *, is_there: bool) -> ModelRef:
    if is_there:
        return ModelRef(kind, text)
    beside = sorted(str(entry) for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    do = nearest(str(path), beside) if beside else f"There is no folder {path.parent} either; check the path."
    raise ModelNotFound(f"there is no model at {text}.", got=text, wanted=KINDS_OF_REFERENCE, do=do)
