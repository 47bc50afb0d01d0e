"""A feature by the word that its rule names: what a demonstration steers, chosen by a rule that can be stated."""

import re

from microtome.features.index import FeatureIndex
from microtome.features.records import TableRow


def feature_named(index: FeatureIndex, word: str, *, f1: float = 0.8) -> TableRow | None:
    """The feature whose rule is that it fires on `word`, with the highest F1 of at least `f1`; None when there is none."""
    rows = index.table(search=word, filter=f'f1 >= {f1} and (rule_kind = "word" or rule_kind = "token")', sort="f1", descending=True, limit=20).rows
    return next((row for row in rows if re.search(rf'" ?{re.escape(word)}"', row.label, re.IGNORECASE)), None)
