"""Which features of a dictionary are alike: the nearest by what they read, and the nearest by what they write."""

import numpy as np
import torch

from microtome.features.arrays import Array
from microtome.features.coactivation import sums
from microtome.features.links import Alike, Alikes
from microtome.features.store import Store


def alike(store: Store, feature: int, *, limit: int) -> Alikes:
    """Both lists with both cosines; a zero direction has cosine 0 to all, and the feature itself is left out."""
    encoder, decoder = cosines(store, feature)
    first = int(store.numbering.starts[store.numbering.place(feature).member])
    together = counts_together(store, feature)
    labels, densities = store.labels(), store.rows.numbers["density"]

    def listed(values: Array) -> tuple[Alike, ...]:
        found: list[Alike] = []
        for at in nearest(values, limit=limit, without=feature - first):
            place = store.numbering.place(first + at)
            found.append(
                Alike(
                    feature=first + at,
                    site=str(place.site),
                    number=place.number,
                    label=labels[first + at],
                    encoder=float(encoder[at]),
                    decoder=float(decoder[at]),
                    together=int(together[first + at]),
                    density=float(densities[first + at]),
                )
            )
        return tuple(found)

    return Alikes(index=store.name, feature=feature, label=store.labels()[feature], encoder=listed(encoder), decoder=listed(decoder))


def cosines(store: Store, feature: int) -> tuple[Array, Array]:
    """Cosines of a feature's encoder and decoder directions with those of all features of its dictionary, float32 [d_dict]."""
    place = store.numbering.place(feature)
    encoders, decoders = store.wiring.encoders(place.member), store.wiring.decoders(place.member)
    return cosine(encoders, encoders[place.number]), cosine(decoders, decoders[place.number])


def cosine(rows: torch.Tensor, vector: torch.Tensor) -> Array:
    """Of one vector with each row; 0 for a zero row or vector."""
    lengths = torch.linalg.vector_norm(rows, dim=1) * vector.norm()
    return torch.where(lengths > 0, (rows @ vector) / lengths.clamp_min(torch.finfo(rows.dtype).tiny), 0.0).clamp(-1.0, 1.0).numpy()


def nearest(values: Array, *, limit: int, without: int | None = None) -> list[int]:
    """The indices of the largest values, largest first, equal ones by number."""
    order = np.argsort(-values, kind="stable")[: max(0, limit) + 1]
    return [int(at) for at in order if at != without][: max(0, limit)]


def counts_together(store: Store, feature: int) -> Array:
    """Tokens on which each feature of the same dictionary fires with this one, float64 [features] (0 for the other dictionaries)."""
    place, firings = store.numbering.place(feature), store.postings.feature(feature)
    members = range(place.member, place.member + 1)
    return sums(store.postings, firings.positions, firings.values, members=members, n_members=len(store.numbering.sites), scaled=False).count
