"""Features: what each feature of a dictionary responds to, kept on disk so that any question about it is answered in milliseconds.

Makes a *feature index* from a corpus and a dictionary, or a set of one a layer: postings in both directions (token → features, feature →
tokens), one row of statistics a feature, and a rule label with its exact F1 for every feature. Begin with `build_index` and
`FeatureIndex`; what they answer with is in `records.py` and `links.py`. A new kind of rule is one function in `rules.py`.
"""

from microtome.features.build import build_index
from microtome.features.catalogue import Catalogue
from microtome.features.components import Component
from microtome.features.config import IndexConfig
from microtome.features.effect_records import Change, Effects, TokenShift
from microtome.features.effects import EffectsConfig
from microtome.features.feature_card import Card
from microtome.features.feature_loss import FeatureLoss, MeanLoss, SliceLoss
from microtome.features.found import PromptHit, PromptSearch, Separation, Separator, TextTests, TokenHit, TokenSearch
from microtome.features.index import FeatureIndex
from microtome.features.kept import VERDICTS, FeatureList, Kept, KeptFeature
from microtome.features.kept import to_csv as kept_csv
from microtome.features.links import Alike, Alikes, Coactive, Link, Links, Match, Matches, Suppressed, Suspect
from microtome.features.losses import measure_losses
from microtome.features.members import Place
from microtome.features.named import feature_named
from microtome.features.records import (
    Breakdown,
    DocumentFeature,
    DocumentList,
    DocumentRow,
    DocumentView,
    Histogram,
    Label,
    LogitEntry,
    Logits,
    Neighbour,
    Note,
    Overview,
    RuleLabel,
    Search,
    SearchHit,
    Statistics,
    Stratum,
    Table,
    TableRow,
    TextTest,
    TokenFeature,
    TokenProfile,
    TokenStat,
    TokenView,
    TurnView,
    Window,
)
from microtome.features.summaries import Summary
from microtome.features.surroundings import Gram, Stretch, Surroundings

__all__ = [
    "IndexConfig",
    "build_index",
    "EffectsConfig",
    "measure_losses",
    "FeatureIndex",
    "Summary",
    "feature_named",
    "Catalogue",
    "Alike",
    "Alikes",
    "Breakdown",
    "Card",
    "Change",
    "Coactive",
    "Component",
    "Effects",
    "FeatureList",
    "FeatureLoss",
    "Gram",
    "Kept",
    "KeptFeature",
    "VERDICTS",
    "kept_csv",
    "Link",
    "Links",
    "Match",
    "Matches",
    "MeanLoss",
    "Place",
    "SliceLoss",
    "Stretch",
    "Suppressed",
    "Surroundings",
    "Suspect",
    "TokenShift",
    "DocumentFeature",
    "DocumentList",
    "DocumentRow",
    "DocumentView",
    "Histogram",
    "Label",
    "LogitEntry",
    "Logits",
    "Neighbour",
    "Note",
    "Overview",
    "PromptHit",
    "PromptSearch",
    "RuleLabel",
    "Search",
    "SearchHit",
    "Separation",
    "Separator",
    "Statistics",
    "Stratum",
    "Table",
    "TableRow",
    "TextTest",
    "TextTests",
    "TokenFeature",
    "TokenHit",
    "TokenProfile",
    "TokenSearch",
    "TokenStat",
    "TokenView",
    "TurnView",
    "Window",
]
