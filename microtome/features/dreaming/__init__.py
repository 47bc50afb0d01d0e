"""Dreaming: fluent prompts, found by evolution, that drive a component; they may or may not beat the corpus' own text.

Makes a `Dream` from an index, a model and a target (`feature_target`, `direction_target`, `downstream_target`): the Pareto front of activation
against cross-entropy, beside the front of the corpus' own text of the same length. Begin with `dream`; a new kind of target has the attributes
and the two methods of `Target`.
"""

from microtome.features.dreaming.config import DreamConfig
from microtome.features.dreaming.dreams import dream, read_dream
from microtome.features.dreaming.records import Dream, Dreamed, KeptDream
from microtome.features.dreaming.shelf import all_dreams, dreams_of
from microtome.features.dreaming.targets import Target, direction_target, downstream_target, feature_target

__all__ = [
    "DreamConfig",
    "Dream",
    "Dreamed",
    "Target",
    "KeptDream",
    "dream",
    "dreams_of",
    "all_dreams",
    "read_dream",
    "feature_target",
    "direction_target",
    "downstream_target",
]
