"""A tiny model whose directions are known: marked characters carry a vector, the first attention spreads it, the unembedding reads it."""

from collections.abc import Mapping
from typing import Any

import torch

from microtome.models import Model, Site, tiny
from microtome.shapes import Tensor

SITE = Site("resid_post", 1)
"""Behind the attention that spreads, with nothing written after it."""


def basis(*, n: int = 16, width: int = 32) -> Tensor:
    """Orthonormal rows: what the first attention can carry."""
    random = torch.randn(width, n, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    return torch.linalg.qr(random).Q.T.float()


@torch.no_grad()
def planted(markers: Mapping[str, Tensor], *, says: Mapping[str, Tensor] | None = None, noise: float = 0.05) -> Model:
    """A llama of three layers in which each character of `markers` holds its vector, besides a little noise.

    Layer 0's attention looks at all tokens alike and adds the mean of what it sees in the span of `basis`; nothing else writes. Each
    character of `says` has a logit that is the stream's part along its vector.
    """
    model = tiny("llama", seed=4)
    hf: Any = model.hf
    rows = basis()
    random = torch.Generator().manual_seed(5)
    hf.model.embed_tokens.weight.copy_(noise * torch.randn(hf.model.embed_tokens.weight.shape, generator=random))
    # every token has the same length before the first norm, so that the norm is one factor
    for character, vector in markers.items():
        hf.model.embed_tokens.weight[one(model, character)] += vector
    quiet = torch.nn.functional.normalize(torch.randn(32, generator=random), dim=0)
    quiet = quiet - rows.T @ (rows @ quiet)
    hf.model.embed_tokens.weight += 3 * quiet / quiet.norm()
    for layer in hf.model.layers:
        layer.self_attn.q_proj.weight.zero_()
        layer.self_attn.k_proj.weight.zero_()
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        layer.input_layernorm.weight.fill_(1)
        layer.post_attention_layernorm.weight.fill_(1)
    first = hf.model.layers[0].self_attn
    first.v_proj.weight.copy_(rows)
    first.o_proj.weight[:, :8].copy_(rows[:8].T)  # heads 0 and 1 share the first eight coordinates, 2 and 3 the others
    first.o_proj.weight[:, 16:24].copy_(rows[8:].T)
    hf.model.norm.weight.fill_(1)
    hf.lm_head.weight.copy_(0.02 * torch.randn(hf.lm_head.weight.shape, generator=random))
    for character, vector in (says or {}).items():
        hf.lm_head.weight[one(model, character)] += vector
    return model


def one(model: Model, character: str) -> int:
    """The id of a character that is a token."""
    (token,) = model.tokenizer.encode(character)
    return token


def alike(a: Tensor, b: Tensor) -> float:
    """Cosine."""
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))
