"""Virtual weights: how strongly one feature's writing is read by another, along the residual stream alone.

V_ij = < sum of the source's decoder vectors at the places written before the target reads, the target's encoder vector > (Ameisen et al. 2025,
"Circuit tracing", global weights), with the gain of the norm before the target folded in. What attention moves is not in it.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple, final

import numpy as np
import torch

from microtome.errors import QueryInvalid
from microtome.features.arrays import Array
from microtome.features.members import Members
from microtome.features.norms import AFTER_NORM, STREAM, Read
from microtome.models import Site
from microtome.shapes import Tensor

Writes = Mapping[Site, Tensor]
"""What one unit of a component adds, float32 [d_model] by site."""


class Reading(NamedTuple):
    """How a target reads the residual stream."""

    site: Site
    """Where it reads …"""
    stream: Site
    """… and where the stream is that comes there, perhaps through a norm."""
    vector: Tensor
    """Its encoder vector, the norm unfolded."""


_INTO_STREAM = (*STREAM, "attn_out", "mlp_out")
_CACHED_BYTES = 1 << 30


@final
class Wiring:
    """The encoder and decoder vectors of all members, in the model's units. Encoders are held as float32 once they were asked for."""

    def __init__(self, members: Members, reads: Sequence[Read]) -> None:
        self.members = members
        self.reads = tuple(reads)
        self._encoder = cache(lambda member: members.dictionaries[member].encoder_directions().detach().float().cpu().contiguous())
        small = 4 * sum(each.d_dict * each.d_out * len(each.writes) for each in members.dictionaries) <= _CACHED_BYTES
        self._decoder = cache(self._directions) if small else self._directions

    def writes(self, feature: int) -> Writes:
        """What one unit of a feature adds, by the site written."""
        place = self.members.numbering.place(feature)
        dictionary = self.members.dictionaries[place.member]
        return {site: dictionary.direction(place.number, write=site).detach().float().cpu() for site in dictionary.writes}

    def encoder(self, feature: int) -> Tensor:
        """The encoder vector of a feature."""
        place = self.members.numbering.place(feature)
        return self._encoder(place.member)[place.number]

    def encoders(self, member: int) -> Tensor:
        """The encoder vectors of a member, float32 [d_dict, d_in]."""
        return self._encoder(member)

    def decoders(self, member: int) -> Tensor:
        """What one unit of each of its features adds, summed over the sites written, float32 [d_dict, d_out]; a crosscoder's lie side by side."""
        dictionary = self.members.dictionaries[member]
        parts = [self._decoder(member, site) for site in dictionary.writes]
        if len(dictionary.inputs) > 1:
            return torch.cat(parts, 1)
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    def arriving(self, writes: Writes, member: int) -> Tensor | None:
        """What a component adds to the row that a member reads, the norm's scale left out; None where nothing of it arrives."""
        dictionary, read = self.members.dictionaries[member], self.reads[member]
        if len(dictionary.inputs) == 1:
            vector = None if read.stream is None else _summed(writes, site=dictionary.reads, stream=read.stream, width=dictionary.d_in)
            return None if vector is None else read.fold(vector)
        parts = [
            _summed(writes, site=site, stream=site, width=width) for site, width in zip(dictionary.inputs, self.members.widths(member), strict=True)
        ]
        if all(part is None for part in parts):
            return None
        columns = zip(parts, self.members.widths(member), strict=True)
        return torch.cat([torch.zeros(width) if part is None else part for part, width in columns])

    def outgoing(self, writes: Writes, *, own: int | None) -> tuple[Array, list[int]]:
        """V of a source to every feature, float32 [features] (0 where it does not reach), and the members it reaches. `own` is left out."""
        found = np.zeros(len(self.members.numbering), np.float32)
        reached: list[int] = []
        for member in range(len(self.members)):
            vector = None if member == own else self.arriving(writes, member)
            if vector is not None:
                reached.append(member)
                found[self.members.numbering.span(member)] = (self._encoder(member) @ vector).numpy()
        return found, reached

    def incoming(self, readings: Sequence[Reading], *, own: int | None) -> tuple[Array, list[int]]:
        """V of every feature to a target that reads the stream so, float32 [features], and the members that reach it. `own` is left out."""
        found = np.zeros(len(self.members.numbering), np.float32)
        reached: list[int] = []
        for member, dictionary in enumerate(self.members.dictionaries):
            pairs = [(write, one.vector) for write in dictionary.writes for one in readings if _reaches(write, site=one.site, stream=one.stream)]
            if member == own or not pairs:
                continue
            reached.append(member)
            for site, encoder in pairs:
                found[self.members.numbering.span(member)] += (self._decoder(member, site) @ encoder).numpy()
        return found, reached

    def readings(self, feature: int) -> list[Reading]:
        """How a feature reads the residual stream; nothing where it does not."""
        place = self.members.numbering.place(feature)
        dictionary, read, encoder = self.members.dictionaries[place.member], self.reads[place.member], self.encoder(feature)
        if len(dictionary.inputs) == 1:
            return [] if read.stream is None else [Reading(dictionary.reads, read.stream, read.unfold(encoder))]
        parts = encoder.split(self.members.widths(place.member))
        return [Reading(site, site, part) for site, part in zip(dictionary.inputs, parts, strict=True) if site.kind in STREAM]

    def check(self, members: Sequence[int]) -> None:
        """Refuse an index that does not know the norms before these members."""
        for member in members:
            site = self.members.numbering.sites[member]
            if site.kind in AFTER_NORM and self.reads[member].stream is None:
                do = "Build the index again with this release: it notes the norms."
                raise QueryInvalid(f"the index does not know the norm before {site}.", got="an index of an earlier release", wanted="its gain", do=do)

    def _directions(self, member: int, site: Site) -> Tensor:
        return self.members.dictionaries[member].directions(write=site).detach().float().cpu()


def _reaches(write: Site, *, site: Site, stream: Site) -> bool:
    """Whether what is written comes to `site`: before it, and no later than where the stream is taken."""
    return write.kind in _INTO_STREAM and write < site and (write < stream or write == stream)


def _summed(writes: Writes, *, site: Site, stream: Site, width: int) -> Tensor | None:
    """The sum of what is written to the stream before a site."""
    vectors = [vector for write, vector in writes.items() if _reaches(write, site=site, stream=stream) and len(vector) == width]
    return torch.stack(vectors).sum(0) if vectors else None
