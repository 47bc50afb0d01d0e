"""What dictionaries from one source are measured on and beside: held-out rows, contexts and controls, made once for all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar, cast, final

import torch

from microtome.activations import Corpus
from microtome.dictionaries import random_like
from microtome.models import Model, Site
from microtome.shapes import Tensor
from microtome.training.config import Pooling
from microtome.training.controls import controls_of, mean_of
from microtome.training.export import Made
from microtome.training.from_forward import FromForward
from microtome.training.measures import ByDocument, Held, by_document, members_of
from microtome.training.source import StoredRows
from microtome.training.splice import Spliced, Splicer, Sums, Variant, contexts_of

CONTROL_ROWS = 16_384
"""Held-out rows that controls other than `random` and `mean` are measured on, evenly spaced among all."""
_MEAN_ROWS = 16_384
ALONE_SITES = 8
"""Each of so many sites written is also spliced alone; of more, only when asked, since every one takes three forwards of its own."""
Split = Literal["train", "dev", "test"]
Kept = TypeVar("Kept")


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A control, measured."""

    sums: ByDocument
    losses: Sums | None
    """Cross-entropy with it in place of the activations; None without a model."""
    note: str = ""
    whole: bool = False
    """Whether it was measured on all rows, as the dictionary was."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A dictionary and its controls, measured."""

    sums: ByDocument
    beside: Mapping[str, Beside]
    losses: Mapping[Site | None, Spliced]
    """Cross-entropy with all sites replaced (None) and, where there are several, with each alone; empty without a model."""
    left_out: Mapping[str, str]
    """Why a control is not among them."""


@final
class Yardstick:
    """Measures dictionaries. What does not depend on the dictionary is done once: rows, the unedited forward, the mean, PCA, k-means, neurons."""

    def __init__(
        self,
        source: StoredRows | FromForward,
        *,
        model: Model | None = None,
        split: Split = "test",
        tokens: int = 65_536,
        ce_tokens: int = 2048,
        alone: bool | None = None,
    ) -> None:
        """`alone`: whether each of several sites is spliced alone too; None says yes to at most `ALONE_SITES`."""
        self.source = source
        self.model = model
        self.split: Split = split
        self._alone_too = alone
        self._tokens, self._ce_tokens = tokens, ce_tokens
        self._kept: dict[tuple[object, ...], object] = {}

    @property
    def corpus(self) -> Corpus:
        return self.source.corpus

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.model is None else self.model.device

    def measure(self, dictionary: Made, sites: tuple[Site, ...], *, report: Callable[[str], None]) -> Measured:
        """A dictionary that reads or writes `sites`, beside its controls."""
        pooling = cast(Pooling, members_of(dictionary)[0].pooling)
        held = self._held(sites, pooling)
        report("reconstruction")
        sums = by_document(dictionary, held, device=self.device)
        random = random_like(dictionary)
        named = {"random": Beside(sums=by_document(random, held, device=self.device), losses=None, whole=True)}
        losses: dict[Site | None, Spliced] = {}
        splices = self.model is not None and pooling == "token"
        report("controls")
        beside, left_out = self.beside(dictionary, l0=mean_l0(sums), sites=sites)
        if splices:
            report("cross-entropy")
            mine, of_random = self._splicer.losses([Variant(dictionary), Variant(random)])
            known = {name: each.losses for name, each in beside.items() if each.losses is not None}
            named["random"] = Beside(sums=named["random"].sums, losses=of_random, whole=True)
            losses[None] = self._spliced(self._splicer, mine, {"random": of_random, **known})
            losses |= self._alone(dictionary, random)
        return Measured(sums=sums, beside={**named, **beside}, losses=losses, left_out=left_out)

    def beside(self, dictionary: Made, *, l0: float, sites: tuple[Site, ...]) -> tuple[dict[str, Beside], dict[str, str]]:
        """(the controls that are not made from the dictionary, why others are left out)."""
        pooling = cast(Pooling, members_of(dictionary)[0].pooling)
        held = self._held(sites, pooling)
        chosen = controls_of(dictionary, l0=l0, rows=lambda of: self._rows(of, pooling), model=self.model)
        some = self._once(("some", sites, pooling), lambda: _thinned(held, CONTROL_ROWS))
        writes = _writes(dictionary)
        keys: dict[str, tuple[object, ...]] = {name: (key, sites) for name, key in chosen.names.items()}
        made = {name: self._once(("made", *key), chosen.made[chosen.names[name]]) for name, key in keys.items()}
        keys["mean"], made["mean"] = ("mean", writes, pooling), self._mean(dictionary)
        whole = {"mean"}
        sums = {
            name: self._once(("sums", *keys[name]), lambda each=each, on=held if name in whole else some: by_document(each, on, device=self.device))
            for name, each in made.items()
        }
        losses: dict[str, Sums] = {}
        if self.model is not None and pooling == "token":
            new = [name for name in made if ("losses", *keys[name]) not in self._kept]
            for name, found in zip(new, self._splicer.losses([Variant(made[name]) for name in new]) if new else (), strict=True):
                self._kept["losses", *keys[name]] = found
            losses = {name: cast(Sums, self._kept["losses", *keys[name]]) for name in made}
        found = {name: Beside(sums=sums[name], losses=losses.get(name), note=chosen.notes.get(name, ""), whole=name in whole) for name in made}
        return found, chosen.left_out

    def splice_of(self, control: Beside, mean: Beside) -> Spliced | None:
        """The losses with a control as the dictionary, beside the mean; None without a model."""
        if control.losses is None or mean.losses is None:
            return None
        return self._spliced(self._splicer, control.losses, {"mean": mean.losses})

    def _mean(self, dictionary: Made) -> Made:
        pooling, writes = cast(Pooling, members_of(dictionary)[0].pooling), _writes(dictionary)

        return self._once(("made mean", writes, pooling), lambda: mean_of(dictionary, lambda of: self._rows(of, pooling)))

    def _rows(self, of: tuple[Site, ...], pooling: Pooling) -> dict[Site, Tensor]:
        """What the mean is taken of, and PCA and k-means are fitted to."""
        return self._once(("rows", of, pooling), lambda: self.source.held(of, pooling=pooling, n=_MEAN_ROWS, split="train").rows)

    def _held(self, sites: tuple[Site, ...], pooling: Pooling) -> Held:
        return self._once(("held", sites, pooling), lambda: self.source.held(sites, pooling=pooling, n=self._tokens, split=self.split))

    def _alone(self, dictionary: Made, random: Made) -> dict[Site | None, Spliced]:
        """Each of several sites alone, on half of the tokens."""
        writes = _writes(dictionary)
        wanted = len(writes) <= ALONE_SITES if self._alone_too is None else self._alone_too
        if len(writes) == 1 or not wanted:
            return {}
        splicer, mean = self._fewer, self._mean(dictionary)
        new = [site for site in writes if ("mean alone", writes, site) not in self._kept]
        variants = [Variant(each, site) for each in (dictionary, random) for site in writes] + [Variant(mean, site) for site in new]
        found = splicer.losses(variants)
        for site, losses in zip(new, found[2 * len(writes) :], strict=True):
            self._kept["mean alone", writes, site] = losses
        made: dict[Site | None, Spliced] = {}
        for place, site in enumerate(writes):
            beside = {"random": found[len(writes) + place], "mean": cast(Sums, self._kept["mean alone", writes, site])}
            made[site] = self._spliced(splicer, found[place], beside)
        return made

    def _spliced(self, splicer: Splicer, mine: Sums, controls: Mapping[str, Sums]) -> Spliced:  # whose, and beside what
        return Spliced(original=splicer.original, dictionary=mine, controls=controls, tokens_by_document=splicer.tokens_by_document)

    @cached_property
    def _splicer(self) -> Splicer:
        return self._contexts(self._ce_tokens)

    @cached_property
    def _fewer(self) -> Splicer:
        return self._contexts(max(1, self._ce_tokens // 2))

    def _contexts(self, tokens: int) -> Splicer:
        assert self.model is not None
        return Splicer(self.model, list(contexts_of(self.source.shards, self.corpus, split=self.split, tokens=tokens)))

    def _once(self, key: tuple[object, ...], make: Callable[[], Kept]) -> Kept:
        if key not in self._kept:
            self._kept[key] = make()
        return cast("Kept", self._kept[key])


def mean_l0(sums: ByDocument) -> float:
    """Active features a row, of a mean member."""
    return sum(float(each.active.sum()) for each in sums.members.values()) / len(sums.members) / float(sums.rows.sum())


def _thinned(held: Held, n: int) -> Held:
    """At most `n` rows, evenly spaced."""
    every = -(-len(held.docs) // n)
    return held if every == 1 else Held(rows={site: each[::every] for site, each in held.rows.items()}, docs=held.docs[::every])


def _writes(dictionary: Made) -> tuple[Site, ...]:
    return tuple(dict.fromkeys(site for member in members_of(dictionary) for site in member.writes))
