"""The dictionaries of an index under one numbering: a feature's id is the first id of its member + its number there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch

from microtome.dictionaries import Crosscoder, Dictionary, DictionarySet
from microtome.errors import FeatureNotFound, SiteNotFound, nearest
from microtome.features.arrays import Array
from microtome.models import Site
from microtome.shapes import Tensor


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a feature of an index comes from."""

    member: int
    """Which of the set's dictionaries, in the order of a forward; 0 for a dictionary alone."""
    site: Site
    """The site that it reads."""
    number: int
    """Its number in that dictionary."""

    def __str__(self) -> str:
        return f"{self.site}/{self.number}"


@final
class Numbering:
    """Ids of the features of one or several dictionaries. It holds no weights."""

    def __init__(self, sites: Sequence[Site], sizes: Sequence[int]) -> None:
        self.sites = tuple(sites)
        self.starts: Array = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def member(self, site: Site) -> int:
        """Which member reads `site`; `SiteNotFound` where none does."""
        if site not in self.sites:
            names = [str(each) for each in self.sites]
            raise SiteNotFound(f"no dictionary of the index reads {site}.", got=site, wanted=", ".join(names), do=nearest(str(site), names))
        return self.sites.index(site)

    def feature(self, site: Site, number: int) -> int:
        """The id of feature `number` of the dictionary that reads `site`; `SiteNotFound`, `FeatureNotFound`."""
        member = self.member(site)
        size = int(self.starts[member + 1] - self.starts[member])
        if not 0 <= number < size:
            raise FeatureNotFound(f"{site} has no feature {number}.", got=number, wanted=f"0 … {size - 1}", do="Give a number in that range.")
        return int(self.starts[member]) + int(number)

    def place(self, feature: int) -> Place:
        """The member, site and number of a feature id."""
        member = int(np.searchsorted(self.starts, feature, side="right")) - 1
        return Place(member=member, site=self.sites[member], number=feature - int(self.starts[member]))

    def span(self, member: int) -> slice:
        """The ids of one member's features."""
        return slice(int(self.starts[member]), int(self.starts[member + 1]))


class Codes(NamedTuple):
    """Active features of some tokens under the index' numbering (CSR, ids ascending in a row)."""

    indptr: Array
    ids: Array
    """int64."""
    values: Array
    """float32; negative ones are there still."""
    bounds: Array
    """Where each member's run begins within a row, int64 [tokens, members]."""


@final
class Members:
    """The dictionaries themselves."""

    def __init__(self, loaded: Dictionary | DictionarySet) -> None:
        self.dictionaries: tuple[Dictionary, ...] = loaded.members if isinstance(loaded, DictionarySet) else (loaded,)
        self.numbering = Numbering([each.reads for each in self.dictionaries], [each.d_dict for each in self.dictionaries])

    def __len__(self) -> int:
        return len(self.dictionaries)

    @property
    def inputs(self) -> tuple[Site, ...]:
        """Every site that is read, in the order of a forward."""
        return tuple(sorted({site for each in self.dictionaries for site in each.inputs}))

    def widths(self, member: int) -> tuple[int, ...]:
        """How many columns of a row each input of a member has."""
        one = self.dictionaries[member]
        return one.widths if isinstance(one, Crosscoder) else (one.d_in,)

    def rows(self, inputs: Mapping[Site, Tensor], member: int) -> Tensor:
        """What a member reads, float32 on the CPU."""
        return torch.cat([inputs[site].float().cpu() for site in self.dictionaries[member].inputs], 1)

    @torch.no_grad()
    def encode(self, inputs: Mapping[Site, Tensor]) -> Codes:
        """The codes of all members, interleaved token by token."""
        csrs = [each.encode(self.rows(inputs, member)).to_csr() for member, each in enumerate(self.dictionaries)]
        counts = np.stack([np.diff(csr.indptr.numpy()) for csr in csrs], 1)
        ends = np.cumsum(counts, 1)
        indptr = np.concatenate([[0], np.cumsum(ends[:, -1])])
        bounds = ends - counts
        ids, values = np.empty(int(indptr[-1]), np.int64), np.empty(int(indptr[-1]), np.float32)
        for member, csr in enumerate(csrs):
            at = np.repeat(indptr[:-1] + bounds[:, member] - csr.indptr.numpy()[:-1], counts[:, member]) + np.arange(len(csr.values))
            ids[at] = csr.indices.numpy() + self.numbering.starts[member]
            values[at] = csr.values.float().numpy()
        return Codes(indptr=indptr, ids=ids, values=values, bounds=bounds)
