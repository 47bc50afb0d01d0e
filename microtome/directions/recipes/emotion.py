"""Emotion vectors: the mean of passages about one emotion, minus the mean of all emotions, freed of what neutral text varies in
("Emotion concepts", 2604.07729)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from microtome.directions.direction import Direction
from microtome.directions.reading import Passage, Reader
from microtome.directions.recipes.contrast import Components, components
from microtome.directions.recipes.lists import EMOTIONS, NEUTRAL, Emotion
from microtome.directions.recipes.probe import bag_of_words, text_of
from microtome.directions.recipes.recipe import Made, made_by, need, passages_json, recipe, shuffled
from microtome.errors import NotEnoughTokens
from microtome.shapes import Float, Tensor
from microtome.stats import Result, wilson

_SHUFFLES = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class EmotionsMade:
    """A direction for each emotion, with the geometry they have together."""

    made: Mapping[str, Made]
    removed: Float[Tensor, "k width"]
    """Unit components of neutral text that were projected out of every vector."""
    principal: Components
    """Of the emotion vectors."""
    results: tuple[Result, ...]
    notes: tuple[str, ...]


@recipe("emotion")
def emotions(
    reader: Reader,
    *,
    passages: Mapping[str, Sequence[Passage]] | None = None,
    neutral: Sequence[Passage] = NEUTRAL,
    share: float = 0.5,
    known: Mapping[str, Emotion] = EMOTIONS,
) -> EmotionsMade:
    """For each emotion v = mean of its passages − mean over emotions of those means, then without the top components of neutral tokens that
    together hold `share` of their variance (0: none removed).

    Passages are read over the reader's span (`from:50` for stories; `from:5` suits the short built-in ones). Those of one emotion should not name it.
    `known` gives valence and arousal from −1 to 1 for the geometry. `recognised` leaves one passage of each emotion out in turn and asks which vector
    it lies along; chance and a bag-of-words centroid stand beside it.
    """
    given = {name: emotion.passages for name, emotion in known.items()} if passages is None else passages
    need(list(given), at_least=2, what="emotions")
    for name, some in given.items():
        need(some, at_least=1, what=f"passages of {name}")
    names = list(given)
    flat = [passage for name in names for passage in given[name]]
    rows = reader.rows(flat).double()
    owner = torch.tensor([i for i, name in enumerate(names) for _ in given[name]])
    removed = top_components(reader.tokens(neutral), share=share) if share else rows.new_zeros(0, rows.shape[1])
    vectors = _vectors(rows, owner, removed)
    n_least = min(len(given[name]) for name in names)
    if n_least < 2:
        raise NotEnoughTokens("an emotion has one passage.", got=n_least, wanted="at least 2 of each", do="Give more, to leave one out in turn.")
    results = [_recognised(rows, owner, removed, texts=[text_of(passage) for passage in flat])]
    principal = components(vectors.float())
    results += _geometry(vectors, principal, names=names, known=known)
    provenance = made_by(reader, "emotion", emotions=passages_json(given), neutral=len(neutral), removed=len(removed), share=share)
    made = {
        name: Made(
            direction=Direction(
                name=name,
                site=reader.site,
                vector=vectors[i].float(),
                sign=f"towards {name}",
                reference=f"the mean of {len(names)} emotions",
                model=reader.model.fingerprint,
                provenance={**provenance, "emotion": name},
            )
        )
        for i, name in enumerate(names)
    }
    notes = ("Vectors of this kind follow the emotion at work in the next tokens, not a lasting state of a character.",)
    return EmotionsMade(made=made, removed=removed.float(), principal=principal, results=tuple(results), notes=notes)


def top_components(rows: Float[Tensor, "n width"], *, share: float) -> Float[Tensor, "k width"]:
    """The fewest principal components of the rows that hold this share of their variance, as unit rows in fp64."""
    found = components(rows)
    held = torch.tensor(found.shares, dtype=torch.float64).cumsum(0)
    n = min(len(held), int((held < share).sum()) + 1)
    return torch.linalg.qr(found.vectors[:n].double().T).Q.T


def project_out(vectors: Float[Tensor, "n width"], basis: Float[Tensor, "k width"]) -> Float[Tensor, "n width"]:
    """The vectors without their part in the span of the orthonormal `basis`."""
    return vectors - (vectors @ basis.T) @ basis


def _vectors(rows: Tensor, owner: Tensor, removed: Tensor) -> Tensor:
    means = torch.stack([rows[owner == i].mean(0) for i in range(int(owner.max()) + 1)])
    return project_out(means - means.mean(0), removed)


def _recognised(rows: Tensor, owner: Tensor, removed: Tensor, *, texts: Sequence[str]) -> Result:
    words = bag_of_words(texts).double()
    right = counted = 0
    for out in range(len(rows)):
        keep = torch.arange(len(rows)) != out
        right += _nearest(rows, owner, keep=keep, out=out, removed=removed) == int(owner[out])
        counted += _nearest(words, owner, keep=keep, out=out, removed=words.new_zeros(0, words.shape[1])) == int(owner[out])
    n, kinds = len(rows), int(owner.max()) + 1
    interval = wilson(right, n)
    return Result(
        name="recognised",
        value=right / n,
        low=interval.low,
        high=interval.high,
        n=n,
        definition="share of left-out passages that lie most along their own emotion's vector",
        baselines={"chance": 1 / kinds, "bag_of_words": counted / n},
    )


def _nearest(rows: Tensor, owner: Tensor, *, keep: Tensor, out: int, removed: Tensor) -> int:
    vectors = _vectors(rows[keep], owner[keep], removed)
    means = torch.stack([rows[keep][owner[keep] == i].mean(0) for i in range(len(vectors))])
    here = project_out((rows[out] - means.mean(0))[None], removed)
    return int((normalize(vectors, dim=1) @ here[0]).argmax())


def _geometry(vectors: Tensor, principal: Components, *, names: Sequence[str], known: Mapping[str, Emotion]) -> list[Result]:
    """|correlation| of the first two components with valence and arousal, beside the mean for shuffled emotions; signs of components mean nothing."""
    if not all(name in known for name in names) or len(names) < 4:
        return []
    results: list[Result] = []
    for number, quality in ((0, "valence"), (1, "arousal")):
        along = (vectors - vectors.mean(0)) @ principal.vectors[number].double()
        wanted = torch.tensor([getattr(known[name], quality) for name in names], dtype=torch.float64)
        value = abs(correlation(along, wanted))
        nulls = [abs(correlation(along, wanted[shuffled(len(names), seed=seed)])) for seed in range(_SHUFFLES)]
        p = (1 + sum(null >= value for null in nulls)) / (1 + len(nulls))
        name = f"{quality}_on_component_{number + 1}"
        baselines = {"shuffled": sum(nulls) / len(nulls), "p": p}
        results.append(Result(name=name, value=value, n=len(names), definition="|Pearson correlation|", baselines=baselines))
    return results


def correlation(a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> float:
    """Pearson's; 0 where either does not vary."""
    x, y = a - a.mean(), b - b.mean()
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / spread if spread else 0.0
