"""Kernels: `reference` says in dense torch what is computed, `ops` computes it fast. Tensors here are in the dictionary's scaled units.

A batch's codes are `Pairs` (row, feature); choose them with `top_k_pairs`, `pairs_above` or `batch_top_k`, whose `Proposer` holds the encoder in the
number type of the dense product, then compute with `decode`, `row_dots` and `feature_sums`.
"""

from microtome.dictionaries.kernels.ops import adam, batch_top_k, decode, feature_sums, pairs_above, row_dots, top_k_pairs
from microtome.dictionaries.kernels.pairs import BatchChosen, ByFeature, Chosen, Pairs
from microtome.dictionaries.kernels.proposer import Product, Proposer, pick_product
from microtome.dictionaries.kernels.topk import top_k
from microtome.dictionaries.kernels.update import AdamStep, Moments
from microtome.dictionaries.kernels.weights import Weights

__all__ = [
    "AdamStep",
    "BatchChosen",
    "ByFeature",
    "Chosen",
    "Moments",
    "Pairs",
    "Product",
    "Proposer",
    "Weights",
    "adam",
    "batch_top_k",
    "decode",
    "feature_sums",
    "pairs_above",
    "pick_product",
    "row_dots",
    "top_k",
    "top_k_pairs",
]
