"""Odd features: the dense ones with what explains them, duplicates, dead, ultra-rare and one-token features.

Makes an `Odd` report from an index alone, without the model: begin with `odd_report`. A new test of dense features is a function in
`categories.py` that gives a `Category`.
"""

from microtome.features.odd.records import Antipode, Category, DenseFeature, Duplicate, Odd, OddFeature
from microtome.features.odd.report import OddConfig, odd_report

__all__ = ["Odd", "OddConfig", "odd_report", "Antipode", "Category", "DenseFeature", "Duplicate", "OddFeature"]
