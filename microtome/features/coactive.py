"""Features that fire on the same tokens: pointwise mutual information, Jaccard, and how often, over the kept tokens of the store."""

import numpy as np

from microtome.errors import QueryInvalid, nearest
from microtome.features.coactivation import sums
from microtome.features.links import Coactive
from microtome.features.store import Store

RANKS = ("jaccard", "pmi", "count")


def coactive(store: Store, feature: int, *, rank: str, at_least: int, limit: int) -> tuple[Coactive, ...]:
    """The features that fire with one, of any dictionary of the index, `at_least` so many times together; the feature itself is left out."""
    if rank not in RANKS:
        raise QueryInvalid(f'features that fire together have no rank "{rank}".', got=rank, wanted=", ".join(RANKS), do=nearest(rank, RANKS))
    firings = store.postings.feature(feature)
    members = len(store.numbering.sites)
    found = sums(store.postings, firings.positions, firings.values, members=range(members), n_members=members, scaled=False)
    counts, both = store.rows.numbers["count"].astype(np.float64), found.count
    chosen = np.flatnonzero(both >= max(1, at_least))
    chosen = chosen[chosen != feature]
    n, together, theirs = len(firings), both[chosen], counts[chosen]
    pmi = np.log2(together * max(1, store.facts["kept"]) / (n * theirs)) if len(chosen) else together
    jaccard = together / (n + theirs - together)
    scores = {"jaccard": jaccard, "pmi": pmi, "count": together}[rank]
    labels, densities = store.labels(), store.rows.numbers["density"]
    made: list[Coactive] = []
    for at in map(int, np.argsort(-scores, kind="stable")[: max(0, limit)]):
        other = int(chosen[at])
        place = store.numbering.place(other)
        made.append(
            Coactive(
                feature=other,
                site=str(place.site),
                number=place.number,
                label=labels[other],
                count=int(together[at]),
                pmi=float(pmi[at]),
                jaccard=float(jaccard[at]),
                share=float(together[at] / n),
                density=float(densities[other]),
            )
        )
    return tuple(made)
