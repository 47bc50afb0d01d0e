"""Access to language models: load one, name its insides, read and change them.

Begin with `load("demo")` (or a hub name, a folder, a GGUF file; `tiny("llama")` needs nothing at all) and

    model = load("demo")
    site = model.site("L15.resid_post")
    tokens = torch.tensor([model.tokenizer.encode("The cat sat on the mat")])
    activations = model.capture(tokens, [site])[site]            # stops after layer 15
    with model.tap(edit={site: lambda x: 0 * x}) as seen: ...    # reads and edits, nestable, thread-safe

A model stays plain Hugging Face modules (`model.hf`); its sites are found by following tensors, so a new family needs no code here as long
as residual = sum of parts holds in it. To be sure of one, run `selfcheck(model)` or `microtome check MODEL`.
"""

from microtome.models.chat import Rendered, TurnSpan, render
from microtome.models.corpus_forward import faster_forward
from microtome.models.frozen import Frozen, HeldNorm, value_maps
from microtome.models.load import load
from microtome.models.model import Model, ReadNorm
from microtome.models.reference import ModelRef, parse_ref
from microtome.models.replay import Recorded, Replay
from microtome.models.scores import ScoreMaps, score_maps
from microtome.models.selfcheck import CheckReport, CheckRow, selfcheck
from microtome.models.sites import KINDS, Site
from microtome.models.tap import Edit
from microtome.models.tiny import TINY_FAMILIES, tiny, tiny_tokenizer
from microtome.models.tokens import Tokenizer

__all__ = [
    "load",
    "Model",
    "ReadNorm",
    "ModelRef",
    "parse_ref",
    "Site",
    "KINDS",
    "Edit",
    "Frozen",
    "HeldNorm",
    "value_maps",
    "ScoreMaps",
    "score_maps",
    "faster_forward",
    "Replay",
    "Recorded",
    "Tokenizer",
    "render",
    "Rendered",
    "TurnSpan",
    "selfcheck",
    "CheckReport",
    "CheckRow",
    "tiny",
    "tiny_tokenizer",
    "TINY_FAMILIES",
]
