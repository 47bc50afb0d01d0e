"""Access to language models: load one, name its insides, read and change them."""

from microtome.models.chat import Rendered, TurnSpan, render
from microtome.models.model import Model
from microtome.models.sites import KINDS, Site
from microtome.models.tap import Edit
from microtome.models.tiny import TINY_FAMILIES, tiny, tiny_tokenizer
from microtome.models.tokens import Tokenizer

__all__ = ["KINDS", "TINY_FAMILIES", "Edit", "Model", "Rendered", "Site", "Tokenizer", "TurnSpan", "render", "tiny", "tiny_tokenizer"]
