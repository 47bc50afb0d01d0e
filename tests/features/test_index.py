"""The opened index against brute force."""

import numpy as np

from microtome.config import canonical_json
from microtome.features import FeatureIndex


def test_smoke(index: FeatureIndex, dense: np.ndarray) -> None:
    print(index.overview())
    for f in range(index.n_features):
        card = index.card(f)
        canonical_json(card)
        card._repr_html_()
    print(card)
    print(index.card(3))
    canonical_json(index.overview()), index._repr_html_()
    print(index.table(filter='density > 1% and label ~ "the"', sort="f1", descending=True, limit=3))
    print(index.table(search="token", limit=2))
    print(index.document(3, limit=2))
    print(index.token(3, offset=4))
    print(index.documents(search="sea", limit=2))
    print(index.examples(3, stratum=1, split="test"))
