"""Odd features: the dense ones with what explains them, duplicates, dead, ultra-rare and one-token features.

Makes an `Odd` report from an index alone, without the model: begin with `odd_report`. `stability` compares the dense subspaces of two indexes,
`dense_ablation` measures what the model loses without that subspace. A new test of dense features is a function in `categories.py` that gives a
`Category`.
"""

from microtome.features.odd.ablation import AblationConfig, dense_ablation
from microtome.features.odd.records import Ablation, Antipode, Category, DenseFeature, Duplicate, Odd, OddFeature, Overlap, Removed, Stability
from microtome.features.odd.report import OddConfig, odd_report
from microtome.features.odd.subspaces import stability

__all__ = [
    "Odd",
    "OddConfig",
    "odd_report",
    "stability",
    "AblationConfig",
    "dense_ablation",
    "Ablation",
    "Antipode",
    "Category",
    "DenseFeature",
    "Duplicate",
    "OddFeature",
    "Overlap",
    "Removed",
    "Stability",
]
