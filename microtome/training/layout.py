"""What is learnt together: encoders that each read some columns, and decoders that each write some columns of one matrix of targets.

An SAE and a transcoder are one member; a crosscoder is one member on sites side by side; a cross-layer transcoder is a member a layer, each
writing to its own layer and all later ones, coupled because their writes add up. A set of layers is several layouts, which do not know each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from microtome.models import Site
from microtome.shapes import Float, Tensor
from microtome.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Member:
    """One encoder and what its features write."""

    reads: tuple[Site, ...]
    """Side by side; several for a crosscoder alone."""
    first: int
    last: int
    """It writes the targets `first` to before `last`."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The members of one learner and the targets that their writes add up to."""

    members: tuple[Member, ...]
    targets: tuple[tuple[Site, ...], ...]
    """Each target's sites, side by side."""
    centred: bool
    """Whether encoders read z - b_dec (an SAE's own convention) rather than z minus a constant."""
    tied: bool
    """Whether a member writes the same rows to every target."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites read or written, each once."""
        read = (site for member in self.members for site in member.reads)
        return tuple(dict.fromkeys((*read, *(site for target in self.targets for site in target))))

    def inputs(self, scaled: Mapping[Site, Tensor]) -> list[Tensor]:
        """What each member reads, from the scaled rows of all sites."""
        return [_side_by_side(member.reads, scaled) for member in self.members]

    def target(self, scaled: Mapping[Site, Tensor]) -> Float[Tensor, "n d_targets"]:
        """All targets side by side."""
        return _side_by_side([site for target in self.targets for site in target], scaled)


def layouts(config: TrainConfig) -> list[Layout]:
    """What a config trains: one layout, or for `layers` one a layer."""
    if config.kind == "layers":
        return [layouts(config.of_layer(index))[0] for index in range(len(config.reads))]
    if config.kind == "crosscoder":
        member = Member(reads=config.reads, first=0, last=1)
        return [Layout(members=(member,), targets=(config.reads,), centred=False, tied=False)]
    targets = tuple((site,) for site in config.targets)
    if config.kind == "cross-layer":
        members = tuple(Member(reads=(site,), first=layer, last=len(targets)) for layer, site in enumerate(config.reads))
    else:
        members = (Member(reads=config.reads, first=0, last=len(targets)),)
    return [Layout(members=members, targets=targets, centred=config.kind == "sae", tied=config.build.tied_decoder)]


def _side_by_side(sites: "tuple[Site, ...] | list[Site]", scaled: Mapping[Site, Tensor]) -> Tensor:
    return scaled[sites[0]] if len(sites) == 1 else torch.cat([scaled[site] for site in sites], dim=1)
