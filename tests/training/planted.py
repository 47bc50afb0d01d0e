"""Activations with a known dictionary, stored as shards."""

from pathlib import Path

import torch
import torch.nn.functional as F

from microtome.activations import FromMatrix, shards_from_matrix
from microtome.models import Site
from microtome.training import TrainConfig

SITE = Site("resid_post", 0)


def planted_rows(n: int, *, d: int = 16, features: int = 32, active: float = 2.0, seed: int = 0) -> torch.Tensor:
    """Sums of a few of `features` random directions, around a mean that is large beside them."""
    generator = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(features, d, generator=torch.Generator().manual_seed(1000)), dim=1)
    on = torch.rand(n, features, generator=generator) < active / features
    return (on * (0.5 + torch.rand(n, features, generator=generator))) @ directions + 5.0


def planted_shards(out: Path, *, n: int = 6000) -> FromMatrix:
    return shards_from_matrix(planted_rows(n), out, doc_tokens=32, shard_tokens=2000, dtype="float32")


def small_config(**changes: object) -> TrainConfig:
    """A training of 60 steps that takes well under a second."""
    base = {"site": SITE, "d_dict": 32, "k": 3, "tokens": 60 * 128, "batch_size": 128, "lr": 4e-3, "dead_after_tokens": 2000}
    return TrainConfig(**{**base, **changes})  # type: ignore[arg-type]  # fields by name
