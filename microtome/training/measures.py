"""How good a dictionary is, counted per document, so that intervals can be drawn by resampling documents."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from microtome.dictionaries import Dictionary, DictionarySet
from microtome.models import Site
from microtome.shapes import Int, Tensor
from microtome.training.export import Made

_ROWS = 4096


@torch.no_grad()
def fvu(dictionary: Made, rows: Tensor | Mapping[Site, Tensor]) -> float:
    """Fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean(x)|^2, both over all rows and columns (mean over these rows).

    A ratio of sums, not a mean of per-token ratios; 0 is perfect, and reconstructing every row as the mean gives 1. Where several sites are written,
    the mean of theirs.
    """
    by_site = {dictionary.writes[0]: rows} if isinstance(rows, Tensor) else rows
    count = len(next(iter(by_site.values())))
    sums: dict[Site, float] = {}
    for first in range(0, count, _ROWS):
        part = {site: each[first : first + _ROWS].float() for site, each in by_site.items()}
        for site, made in reconstructions(dictionary, part).items():
            sums[site] = sums.get(site, 0.0) + float((made - part[site]).cpu().double().square().sum())
    return sum(unexplained / _variance(by_site[site]) for site, unexplained in sums.items()) / len(sums)


def reconstructions(dictionary: Made, rows: Mapping[Site, Tensor]) -> dict[Site, Tensor]:
    """What a dictionary of any kind makes of rows: each site written."""
    if isinstance(dictionary, DictionarySet):
        return dictionary.reconstruct(rows)
    x = read_rows(dictionary, rows)
    codes = dictionary.encode(x)
    return {site: dictionary.reconstruct(x, codes=codes, write=site) for site in dictionary.writes}


def read_rows(dictionary: Dictionary, rows: Mapping[Site, Tensor]) -> Tensor:
    """What one dictionary reads: the sites' rows side by side."""
    inputs = [rows[site].float() for site in dictionary.inputs]
    return inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)


def _variance(x: Tensor) -> float:
    whole = x.cpu().double()
    return float((whole - whole.mean(0)).square().sum())


def members_of(dictionary: Made) -> tuple[Dictionary, ...]:
    """The dictionaries that a set holds, or the one."""
    return dictionary.members if isinstance(dictionary, DictionarySet) else (dictionary,)


@dataclass(frozen=True, kw_only=True)
class Held:
    """Held-out rows of all sites that a dictionary reads or writes."""

    rows: dict[Site, Tensor]
    docs: Int[Tensor, "n"]
    """Document of each row."""


@dataclass(frozen=True, kw_only=True)
class SiteSums:
    """Sums over each document's rows at one site written."""

    unexplained: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MemberSums:
    """What one member's features did."""

    active: npt.NDArray[np.float64]
    """Active (row, feature) pairs of each document."""
    fired: npt.NDArray[np.int64]
    """Rows on which each feature was active, [d_dict]; over all documents."""


@dataclass(frozen=True, kw_only=True)
class ByDocument:
    """The sums that FVU, L0 and density are ratios of."""

    sites: dict[Site, SiteSums]
    """By site written."""
    members: dict[Site, MemberSums]
    """By the (first) site that a member reads."""
    rows: npt.NDArray[np.float64]
    """Rows of each document."""


@torch.no_grad()
def by_document(dictionary: Made, held: Held, *, device: torch.device) -> ByDocument:
    """Measure on held-out rows. The dictionary works on `device`; sums are fp64 on the CPU."""
    there = dictionary.to(device)
    members = members_of(there)
    writes = tuple(dict.fromkeys(site for member in members for site in member.writes))
    _, group = torch.unique(held.docs, return_inverse=True)
    groups = int(group.max()) + 1

    def per_document() -> Tensor:
        return torch.zeros(groups, dtype=torch.float64)

    sums = {site: (per_document(), per_document()) for site in writes}
    active = {member.reads: per_document() for member in members}
    fired = {member.reads: torch.zeros(member.d_dict, dtype=torch.int64) for member in members}
    means = {site: held.rows[site].mean(0, dtype=torch.float64) for site in writes}
    for first in range(0, len(held.docs), _ROWS):
        part, where = slice(first, first + _ROWS), group[first : first + _ROWS]
        rows = {site: each[part].float().to(device) for site, each in held.rows.items()}
        made: dict[Site, Tensor] = {}
        for member in members:
            x = read_rows(member, rows)
            codes = member.encode(x)
            on = codes.values != 0
            fired[member.reads] += torch.bincount(codes.indices[on], minlength=member.d_dict).cpu()
            active[member.reads].index_add_(0, where, on.sum(1).cpu().double())
            for site in member.writes:
                written = member.reconstruct(x, codes=codes, write=site)
                made[site] = made[site] + written if site in made else written
        for site, (unexplained, variance) in sums.items():
            unexplained.index_add_(0, where, (made[site] - rows[site]).cpu().double().square().sum(1))
            variance.index_add_(0, where, (held.rows[site][part].double() - means[site]).square().sum(1))
    counts = torch.bincount(group, minlength=groups).double()
    return ByDocument(
        sites={site: SiteSums(unexplained=each[0].numpy(), variance=each[1].numpy()) for site, each in sums.items()},
        members={site: MemberSums(active=active[site].numpy(), fired=fired[site].numpy()) for site in fired},
        rows=counts.numpy(),
    )
