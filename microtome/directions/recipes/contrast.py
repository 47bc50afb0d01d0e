"""Two sets of passages, and the direction from one to the other: difference of means, or the first component of paired differences."""

from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple

import torch

from microtome.directions.direction import Direction
from microtome.directions.reading import Passage, Reader
from microtome.directions.recipes.recipe import Made, cosine, made_by, mean_norm, need, recipe, shuffled
from microtome.errors import ConfigError, ShapeMismatch
from microtome.shapes import Float, Tensor
from microtome.stats import Result

_SPLITS = 20
_SAME = 1e-6
"""Of the mean length: sets that differ by less are the same."""


class Components(NamedTuple):
    """Principal components, the largest first."""

    vectors: Float[Tensor, "k width"]
    """Unit rows. Their signs are arbitrary: orient before use."""
    shares: tuple[float, ...]
    """Share of the variance of each."""


def mean_difference(positive: Float[Tensor, "n width"], negative: Float[Tensor, "m width"]) -> Float[Tensor, "width"]:
    """mean(positive) − mean(negative), summed in fp64."""
    return (positive.double().mean(0) - negative.double().mean(0)).float()


def components(rows: Float[Tensor, "n width"], *, centred: bool = True) -> Components:
    """Principal components of the rows, after their mean was removed if `centred`. Computed by SVD in fp64."""
    x = rows.double()
    x = x - x.mean(0) if centred else x
    _, singular, vectors = torch.linalg.svd(x, full_matrices=False)
    total = float(singular.square().sum())
    shares = tuple((singular.square() / total).tolist()) if total else (0.0,) * len(singular)
    return Components(vectors.float(), shares)


def paired_component(positive: Float[Tensor, "n width"], negative: Float[Tensor, "m width"]) -> Float[Tensor, "width"]:
    """The unit vector that explains most of positive[i] − negative[i], pointing to the positive side.

    The differences are not centred: their mean is the signal, and centring would remove it. The sign of a component is arbitrary, so it is
    turned until the differences lie on its positive side on average.
    """
    if positive.shape != negative.shape:
        got, wanted = f"{len(positive)} and {len(negative)} passages", "as many of both, pair by pair"
        raise ShapeMismatch("the passages are not paired.", got=got, wanted=wanted, do='Pair them, or use the method "mean".')
    differences = positive.double() - negative.double()
    first = components(differences.float(), centred=False).vectors[0]
    return first if float((differences @ first.double()).mean()) >= 0 else -first


@recipe("contrast")
def contrast(
    reader: Reader,
    *,
    positive: Sequence[Passage],
    negative: Sequence[Passage],
    name: str = "contrast",
    method: Literal["mean", "pca"] = "mean",
    reference: str = "the opposite class",
    seed: int = 0,
) -> Made:
    """The direction from the negative passages to the positive ones at the reader's site and span.

    `mean`: v = mean(positive) − mean(negative), of the length measured; the reference is what you give as negative: the opposite class,
    other classes, unrelated words, a default persona. `pca`: the first component of the paired differences, of length 1.

    Beside it stands how well two halves of the passages agree (mean cosine of 20 random splits), with the same for shuffled classes.
    Raises `NotEnoughTokens`, `ShapeMismatch`, and `ZeroDirection` when the two sets are the same.
    """
    if method not in ("mean", "pca"):
        raise ConfigError(f'there is no method "{method}".', got=method, wanted="mean, pca", do="Choose one.")
    need(positive, at_least=1, what="positive passages")
    need(negative, at_least=1, what="negative passages")
    rows = reader.rows([*positive, *negative])
    high, low = rows[: len(positive)], rows[len(positive) :]
    vector = mean_difference(high, low) if method == "mean" else paired_component(high, low)
    if float(mean_difference(high, low).norm()) < _SAME * mean_norm(rows):
        vector = torch.zeros_like(vector)  # rounding is no direction: refused below
    provenance = made_by(reader, "contrast", method=method, positive=len(positive), negative=len(negative))
    direction = Direction(
        name=name,
        site=reader.site,
        vector=vector,
        unit="raw" if method == "mean" else "unit",
        sign=f"towards {name}",
        reference=reference,
        model=reader.model.fingerprint,
        provenance=provenance,
    )
    results = [_length(direction, rows)]
    if len(positive) >= 4 and len(negative) >= 4:
        results.append(split_half(high, low, seed=seed))
    return Made(direction=direction, results=tuple(results), notes=_notes(positive, negative))


def split_half(high: Float[Tensor, "n width"], low: Float[Tensor, "m width"], *, seed: int = 0) -> Result:
    """Mean cosine of the differences of means of two random halves, over 20 splits; `shuffled` is the same with the classes mixed."""

    def agreement(high: Tensor, low: Tensor, split: int) -> float:
        a, b = shuffled(len(high), seed=split), shuffled(len(low), seed=split + 1)
        first = mean_difference(high[a[::2]], low[b[::2]])
        return cosine(first, mean_difference(high[a[1::2]], low[b[1::2]]))

    values = [agreement(high, low, seed + 10 * split) for split in range(_SPLITS)]
    both = torch.cat([high, low])
    mixed: list[float] = []
    for split in range(_SPLITS):
        order = both[shuffled(len(both), seed=seed + 10 * split + 5)]
        mixed.append(agreement(order[: len(high)], order[len(high) :], seed + 10 * split))
    ordered = sorted(values)
    return Result(
        name="split_half",
        value=fmean(values),
        low=ordered[0],
        high=ordered[-1],
        n=len(high) + len(low),
        definition="mean cosine of the directions of two random halves of the passages; the interval is the range over 20 splits",
        baselines={"shuffled": fmean(mixed)},
    )


def _length(direction: Direction, rows: Float[Tensor, "n width"]) -> Result:
    return Result(
        name="length",
        value=direction.norm / mean_norm(rows),
        n=len(rows),
        unit="of mean length",
        definition="‖v‖ divided by the mean length of the passages' vectors",
    )


def _notes(positive: Sequence[Passage], negative: Sequence[Passage]) -> tuple[str, ...]:
    few = min(len(positive), len(negative))
    note = f"Only {few} passages in the smaller set: the direction holds much of these very passages."
    return (note,) if few < 16 else ()
