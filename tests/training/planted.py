"""Activations with a known dictionary, stored as shards."""

from pathlib import Path

import torch
import torch.nn.functional as F

from microtome.activations import FromMatrix, shards_from_matrix
from microtome.dictionaries import TopK
from microtome.models import Site
from microtome.training import AuxK, Build, Schedule, TrainConfig

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
    """A training of 60 steps that takes well under a second; a field of `Schedule`, `Build` or `AuxK` is named like any other."""
    base = {"reads": (SITE,), "d_dict": 32, "nonlinearity": TopK(k=3), "tokens": 60 * 128, "batch_size": 128, "lr": 4e-3}
    groups = {"schedule": Schedule, "build": Build, "revival": AuxK}
    inner: dict[str, dict[str, object]] = {"revival": {"dead_after_tokens": 2000}, "schedule": {}, "build": {}}
    outer: dict[str, object] = {}
    for name, value in changes.items():
        owner = next((group for group, kind in groups.items() if name in kind.__dataclass_fields__), None)
        (outer if owner is None else inner[owner])[name] = value
    made = {group: kind(**inner[group]) for group, kind in groups.items()}  # type: ignore[arg-type]  # fields by name
    return TrainConfig(**{**base, **made, **outer})  # type: ignore[arg-type]  # fields by name
