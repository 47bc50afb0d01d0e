"""Forward: what is learnt (`Parameters`), how (`Plan`), and the reconstruction of a batch from it.

With encoder inputs x_m of the members m, in scaled units:

    f_m    = rule(W_enc_m x_m + b_enc_m)
    z_hat  = b_dec + sum over m of f_m W_dec_m, each in the columns that it writes, + W_skip_m x_m in those of its own layer
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from microtome.shapes import Float, Tensor
from microtome.training.group import ALONE, Group
from microtome.training.layout import Layout
from microtome.training.losses import Penalty
from microtome.training.rules import Active, Encoder, Rule

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """All weights of a learner, or a gradient of each."""

    members: list[Tensors]
    """`W_enc [d_dict, d_in]`, `b_enc`, `W_dec [d_dict, columns written]` (one target's where tied), the rule's own, maybe `W_skip [d_out, d_in]`."""
    b_dec: Float[Tensor, "d_targets"]

    def named(self) -> Tensors:
        """Flat: `b_dec`, `0.W_enc`, …"""
        return {"b_dec": self.b_dec, **{f"{number}.{name}": tensor for number, member in enumerate(self.members) for name, tensor in member.items()}}

    def like(self, named: Mapping[str, Tensor]) -> "Parameters":
        """The same structure with the tensors of a flat mapping."""
        members = [{name: named[f"{number}.{name}"] for name in member} for number, member in enumerate(self.members)]
        return Parameters(members=members, b_dec=named["b_dec"])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a step computes."""

    layout: Layout
    rules: tuple[Rule, ...]
    """One a member; they may remember a running threshold."""
    prefixes: tuple[int, ...]
    """Numbers of first features whose reconstructions each have a loss; the last is d_dict. Counted among the features held here."""
    penalties: tuple[Penalty, ...] = ()
    frozen_decoder: bool = False
    group: Group = ALONE
    """The processes that take this step together."""

    @property
    def one_target(self) -> bool:
        """Whether what a member's features decode to is a reconstruction's part as it stands."""
        return len(self.layout.targets) == 1 and not self.layout.tied

    def width(self, matrix: Tensor) -> int:
        """Columns of one target."""
        return matrix.shape[1] // len(self.layout.targets)

    def written(self, matrix: Tensor, number: int) -> Tensor:
        """The columns that a member's decoder rows meet; where it is tied, the sum over its targets."""
        member = self.layout.members[number]
        columns = matrix.unflatten(1, (len(self.layout.targets), -1))[:, member.first : member.last]
        return columns.sum(1) if self.layout.tied else columns.flatten(1).contiguous()

    def write(self, matrix: Tensor, number: int, *, rows: Tensor) -> None:
        """Add what a member's features decode to, in place."""
        member = self.layout.members[number]
        columns = matrix.unflatten(1, (len(self.layout.targets), -1))[:, member.first : member.last]
        columns.add_(rows[:, None] if self.layout.tied else rows.unflatten(1, (member.last - member.first, -1)))

    def own(self, matrix: Tensor, number: int) -> Tensor:
        """The columns of a member's own layer, which its skip connection writes."""
        first, width = self.layout.members[number].first, self.width(matrix)
        return matrix[:, first * width : (first + 1) * width]

    def norms(self, W_dec: Tensor, number: int) -> Float[Tensor, "d_dict"]:
        """Norms of a member's decoder rows over all that they write."""
        return torch.linalg.vector_norm(W_dec, dim=1) * self.copies(number) ** 0.5

    def copies(self, number: int) -> int:
        """How often a decoder row is written."""
        member = self.layout.members[number]
        return member.last - member.first if self.layout.tied else 1


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows in scaled units."""

    inputs: list[Tensor]
    """One a member."""
    target: Float[Tensor, "n d_targets"]
    prefix_target: Float[Tensor, "n d_targets"] | None = None
    """What the first prefix reconstructs, where that is something else (`Nested`)."""


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A batch reconstructed."""

    x: list[Tensor]
    """Encoder inputs of the members."""
    active: list[Active]
    reconstructions: list[Tensor]
    """Of each prefix."""


def reconstruct(inputs: Sequence[Tensor], weights: Parameters, *, plan: Plan, encoders: Sequence[Encoder], bare: bool = False) -> Forward:
    """Encode every member and add up what they write, prefix after prefix; `bare`, which only a plan without skips to one target may be, leaves
    b_dec out."""
    x = [each - weights.b_dec for each in inputs] if plan.layout.centred else list(inputs)
    active = [rule.activate(each, encoder) for rule, each, encoder in zip(plan.rules, x, encoders, strict=True)]
    made = None if plan.one_target and not any("W_skip" in member for member in weights.members) else weights.b_dec.expand(len(x[0]), -1).clone()
    for number, member in enumerate(weights.members):
        if made is not None and "W_skip" in member:
            plan.own(made, number).add_(x[number] @ member["W_skip"].T)
    reconstructions: list[Tensor] = []
    for low, high in pairwise((0, *plan.prefixes)):
        made = made.clone() if made is not None and reconstructions else made
        for number, (member, each) in enumerate(zip(weights.members, active, strict=True)):
            part = each.support.part(low, high)
            rows = plan.group.over_features(part.support.decode(each.values[part.place], member["W_dec"]))
            if made is None:
                made = rows if bare else rows.add_(weights.b_dec)
            else:
                plan.write(made, number, rows=rows)
        assert made is not None
        reconstructions.append(made)
    return Forward(x=x, active=active, reconstructions=reconstructions)
