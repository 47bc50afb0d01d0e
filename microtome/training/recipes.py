"""Recipes: whole training runs from text as values, so that anyone can make the same dictionary with one command."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from microtome.activations import Corpus, CorpusConfig, ForwardConfig, build_corpus
from microtome.dictionaries import TopK
from microtome.models import Model, Site
from microtome.progress import Progress
from microtome.registry import Registry
from microtome.training.config import Build, Schedule, TrainConfig
from microtome.training.fit import finished
from microtome.training.from_forward import FromForward
from microtome.training.loop import training
from microtome.training.records import Callback, Trained


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """A model, a corpus and a training run, with what to expect of them. Rows come straight from the model's forward: nothing is stored."""

    title: str
    model: str
    """Reference of the model."""
    corpus: CorpusConfig
    train: TrainConfig
    forward: ForwardConfig = field(default_factory=ForwardConfig)
    licence: str
    """Of the text."""
    expects: str
    """Time, memory and quality."""

    def smaller(self, *, layers: Sequence[int] | None = None, features: int | None = None, tokens: int | None = None) -> "TrainRecipe":
        """The same recipe on some layers, with fewer features or tokens: to try it out."""
        train = self.train
        if layers is not None:
            reads, writes = (tuple(site for site in sites if site.layer in layers) for sites in (train.reads, train.writes))
            train = replace(train, reads=reads, writes=writes)
        if features is not None:
            train = replace(train, d_dict=features)
        if tokens is not None:
            train = replace(train, tokens=tokens, batch_size=min(train.batch_size, max(1, tokens // 8)))
        return replace(self, train=train)


RECIPES: Registry[TrainRecipe] = Registry("recipe")


@dataclass(frozen=True, kw_only=True)
class RecipeOut:
    """Where a recipe puts what it makes."""

    corpus: Path
    dictionary: Path


def run_recipe(
    recipe: TrainRecipe,
    model: Model,
    *,
    out: RecipeOut,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    replace: bool = False,
) -> Trained:
    """Build the corpus, train, and measure with the model; each is opened where it is there, and resumed where it was interrupted.

    `model` is the recipe's. Quality has held-out FVU of every site written, and cross-entropy recovered with all of them replaced and with each
    alone. Raises what `build_corpus` and `train` raise.
    """
    corpus: Corpus = build_corpus(model, recipe.corpus, out=out.corpus, progress=progress)
    source = FromForward(model=model, corpus=corpus, config=recipe.forward)
    run = training(source, recipe.train, out=out.dictionary, model=model, callbacks=callbacks, progress=progress, replace=replace)
    return finished(run)


def _sites(kind: str, *, layers: int) -> tuple[Site, ...]:
    return tuple(Site(kind, layer) for layer in range(layers))


_DEMO_LAYERS = 30
# A token's forward through the demo model takes a core 3 ms, three times as long as learning from it takes: each row is learnt from five times. What
# that costs, simulated at layer 8 with the orders of such a stream (FVU after 1M rows in batches of 2,048): 0.429 with three passes, 0.435 with four,
# 0.444 with five; half the buffer 0.010 more, batches of 4,096 0.010 more, of 1,024 0.007 less in a third more time.
_PLT: dict[str, Any] = {
    "title": "Per-layer transcoders of the demo model: 30 layers, 2,048 features each, 16 active",
    "model": "demo",
    "corpus": CorpusConfig(source="wiki", max_tokens=250_000),
    "train": TrainConfig(
        kind="layers",
        reads=_sites("mlp_in", layers=_DEMO_LAYERS),
        writes=_sites("mlp_out", layers=_DEMO_LAYERS),
        nonlinearity=TopK(k=16),
        d_dict=2048,
        tokens=1_000_000,
        batch_size=1792,
        lr=1e-2,  # a search over three layers with 60,000 tokens prefers 8e-3 to 4e-3 and 1.4e-2; at layer 8, with all rows, 1e-2 is better
        schedule=Schedule(checkpoint_every_tokens=500_000),
        build=Build(),
    ),
    "forward": ForwardConfig(buffer_bytes=2 * 2**30, passes=5),
    "licence": "CC BY-SA 4.0 (Wikipedia)",
    "expects": "20 minutes and 6 GB on 2 cores; figures of the finished set are in its quality.json",
}
RECIPES.register("demo-plt")(TrainRecipe(**_PLT))
