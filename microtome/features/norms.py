"""The norms between the residual stream and what the members of an index read: folded gains, and a scale for every token.

Stored as `norms.safetensors` (`gain` f32 [members, d_model], 1 where there is no norm) and in `index.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from microtome.features.arrays import Array
from microtome.features.members import Members
from microtome.features.passes import Batch
from microtome.models import Model, ReadNorm, Site
from microtome.shapes import Float, Tensor

FILE = "norms.safetensors"
AFTER_NORM = ("attn_in", "mlp_in", "final_norm")
"""Kinds of site that may be read after a norm."""
STREAM = ("embed", "resid_pre", "resid_mid", "resid_post")
"""Kinds of site that are the residual stream itself."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """How one member's site is read from the residual stream."""

    stream: Site | None
    """Where the stream is that it reads; None for a site that is not read from the stream directly (`mlp_out`), or whose norm is not known."""
    gain: Tensor | None
    """The norm's gain, float32 [d_model]; None where there is no norm."""
    centres: bool
    scaled: bool
    """Whether the norm's scale was measured on every token; else 1 stands for it, as it does where there is no norm."""

    def fold(self, vector: Float[Tensor, "d_model"]) -> Float[Tensor, "d_model"]:
        """What a vector written to the stream adds at the site, up to the scale: gain · C v."""
        if self.gain is None:
            return vector
        return self.gain * (vector - vector.mean() if self.centres else vector)

    def unfold(self, encoder: Float[Tensor, "d_model"]) -> Float[Tensor, "d_model"]:
        """The encoder vector as it reads the stream, C (gain · e): the transpose of `fold`."""
        if self.gain is None:
            return encoder
        folded = self.gain * encoder
        return folded - folded.mean() if self.centres else folded

    def to_json(self) -> dict[str, Any]:
        """All but the gain."""
        return {
            "stream": None if self.stream is None else str(self.stream),
            "norm": self.gain is not None,
            "centres": self.centres,
            "scaled": self.scaled,
        }


@final
class Norms:
    """The norms before all members, while an index is built."""

    def __init__(self, members: Members, model: Model, *, available: Sequence[Site] | None) -> None:
        """`available`: sites that can be captured together (None: all of the model's)."""
        self.norms: list[ReadNorm | None] = [None] * len(members)
        self.reads: list[Read] = []
        self._sites = members.numbering.sites
        for member, site in enumerate(self._sites):
            norm = model.norm(site) if site.kind in AFTER_NORM and model.has(site) else None
            scaled = norm is not None and (available is None or norm.stream in available)
            self.norms[member] = _on_cpu(norm) if norm is not None and scaled else None
            gain = None if norm is None else norm.gain.cpu()
            stream = norm.stream if norm is not None else stream_of(site, model)
            self.reads.append(Read(stream=stream, gain=gain, centres=norm is not None and norm.centres, scaled=scaled))

    @property
    def streams(self) -> tuple[Site, ...]:
        """Sites that must be captured beside those that are read."""
        return tuple(sorted({norm.stream for norm in self.norms if norm is not None}))

    def scales(self, batch: Batch) -> Array | None:
        """The scale of each token before each member, 1 where there is no norm; None where there is none at all."""
        if all(norm is None for norm in self.norms):
            return None
        found = np.ones((len(batch.positions), len(self.norms)), np.float32)
        for member, (site, norm) in enumerate(zip(self._sites, self.norms, strict=True)):
            if norm is not None:
                found[:, member] = norm.scale(batch.inputs[norm.stream].cpu(), batch.inputs[site].cpu()).numpy()
        return found

    def gains(self) -> dict[str, Tensor]:
        """What `norms.safetensors` holds; nothing without norms."""
        widths = {len(read.gain) for read in self.reads if read.gain is not None}
        if not widths:
            return {}
        return {"gain": torch.stack([torch.ones(max(widths)) if read.gain is None else read.gain for read in self.reads])}


def stream_of(site: Site, model: Model | None = None) -> Site | None:
    """The place in the residual stream that is read at a site without a norm; None for a site that does not read the stream."""
    if site.kind in STREAM:
        return site
    if model is None or site.kind not in ("attn_in", "mlp_in"):
        return None
    return Site("resid_mid" if site.kind == "mlp_in" and not model.is_parallel else "resid_pre", site.layer)


def reads_of(facts: Sequence[Mapping[str, Any]], gains: Mapping[str, Tensor]) -> list[Read]:
    """The inverse of `Read.to_json`."""
    return [
        Read(
            stream=None if fact["stream"] is None else Site.parse(fact["stream"]),
            gain=gains["gain"][member] if fact["norm"] else None,
            centres=fact["centres"],
            scaled=fact["scaled"],
        )
        for member, fact in enumerate(facts)
    ]


def _on_cpu(norm: ReadNorm) -> ReadNorm:
    return ReadNorm(stream=norm.stream, gain=norm.gain.cpu(), bias=norm.bias.cpu(), centres=norm.centres)
