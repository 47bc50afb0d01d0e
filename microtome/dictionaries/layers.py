"""Sets of dictionaries, one a layer: per-layer transcoders or SAEs, and cross-layer transcoders."""

from collections.abc import Mapping
from typing import Literal, final

import torch

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.dictionary import Dictionary
from microtome.errors import DictionaryInvalid, SiteNotFound
from microtome.models import Site
from microtome.shapes import Tensor

SetKind = Literal["layers", "cross-layer"]


@final
class DictionarySet:
    """Dictionaries that together read and write many sites, each found by the site that it reads.

    `layers`: every site is written by one member. `cross-layer`: what is reconstructed at a site is the sum of what the members that write it
    give (Ameisen et al. 2025, "Circuit tracing"); a member's bias and skip reach its first write alone, so each counts once.
    """

    def __init__(self, members: tuple[Dictionary, ...], *, kind: SetKind = "layers") -> None:
        reads = [member.reads for member in members]
        if not members or len(set(reads)) != len(reads):
            got = ", ".join(map(str, reads)) or "no member"
            raise DictionaryInvalid(
                "the members of a set read one site each.", got=got, wanted="different sites", do="Give each layer one dictionary."
            )
        self.members = tuple(sorted(members, key=lambda member: member.reads))
        self.kind: SetKind = kind
        written = [site for member in self.members for site in member.writes]
        if kind == "layers" and len(set(written)) != len(written):
            do = 'Make the set with kind="cross-layer".'
            raise DictionaryInvalid("two members write the same site.", got=", ".join(map(str, written)), wanted="different sites", do=do)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites read, in the order of a forward."""
        return tuple(member.reads for member in self.members)

    @property
    def writes(self) -> tuple[Site, ...]:
        """The sites written, in the order of a forward."""
        return tuple(sorted({site for member in self.members for site in member.writes}))

    @property
    def d_dict(self) -> int:
        """Features of all members together."""
        return sum(member.d_dict for member in self.members)

    def member(self, site: Site) -> Dictionary:
        """The dictionary that reads `site`; `SiteNotFound` where there is none."""
        for member in self.members:
            if member.reads == site:
                return member
        wanted = ", ".join(map(str, self.sites))
        raise SiteNotFound(f"no dictionary of the set reads {site}.", got=site, wanted=wanted, do="Ask for a site that the set reads.")

    def encode(self, inputs: Mapping[Site, Tensor]) -> dict[Site, SparseCodes]:
        """The codes of every member, by the site that it reads; all those sites must be in `inputs`."""
        return {member.reads: member.encode(self._rows(inputs, member)) for member in self.members}

    def reconstruct(self, inputs: Mapping[Site, Tensor], *, codes: Mapping[Site, SparseCodes] | None = None) -> dict[Site, Tensor]:
        """What the set says is written at each site that it writes. `codes`, where known, spare the encoding."""
        made: dict[Site, Tensor] = {}
        for member in self.members:
            x = self._rows(inputs, member)
            active = member.encode(x) if codes is None else codes[member.reads]
            for site in member.writes:
                part = member.reconstruct(x, codes=active, write=site)
                made[site] = made[site] + part if site in made else part
        return {site: made[site] for site in self.writes}

    def to(self, device: torch.device | str) -> "DictionarySet":
        """The same set with its weights on another device."""
        return DictionarySet(tuple(member.to(device) for member in self.members), kind=self.kind)

    def _rows(self, inputs: Mapping[Site, Tensor], member: Dictionary) -> Tensor:
        missing = [site for site in member.inputs if site not in inputs]
        if missing:
            do = "Give the activations of every site that the set reads."
            raise SiteNotFound(f"there are no activations of {missing[0]}.", got=", ".join(map(str, inputs)), wanted=missing[0], do=do)
        return inputs[member.reads] if len(member.inputs) == 1 else torch.cat([inputs[site] for site in member.inputs], 1)
