"""Kernels: `reference` says in dense torch what is computed, `sparse` computes it fast. Tensors here are in the dictionary's scaled units."""

from microtome.dictionaries.kernels.sparse import Product, Revival, Step, pick_product, propose, revive, step
from microtome.dictionaries.kernels.topk import top_k
from microtome.dictionaries.kernels.weights import Weights

__all__ = ["Product", "Revival", "Step", "Weights", "pick_product", "propose", "revive", "step", "top_k"]
