"""`microtome train`: activations become a dictionary of features."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from microtome.cli.cards import titled
from microtome.cli.session import Common, Session
from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.models
    import microtome.training


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The sizes and the schedule; the defaults are sensible."""

    features: int = 4608
    """Features in the dictionary (d_dict)."""
    k: int = 32
    """Features active on a token."""
    tokens: int = 2_000_000
    """Tokens trained on; more than the training documents hold means several epochs."""
    batch_size: int = 4096
    """Tokens a step."""
    lr: float | None = None
    """Learning rate; by default a short search finds it."""
    seed: int = 0
    """Of the initial weights and the order of the tokens."""


def train(
    shards: str | None = None,
    *,
    site: str | None = None,
    name: str | None = None,
    recipe: Recipe = Recipe(),
    splice: Annotated[bool, Parameter(negative="--no-splice")] = True,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Train a TopK sparse autoencoder on harvested activations, and measure it on held-out tokens.

    Makes dictionaries/NAME in the workspace. Can be interrupted: the same
    command resumes from the last checkpoint, with the same result. Quality
    stands beside two controls: a random dictionary and the mean of the
    activations.

    Examples:

        microtome train wiki

        microtome train wiki --features 18432 --k 64 --name wide

    Parameters
    ----------
    shards
        Name in the workspace, or path; not needed when there is only one.
    site
        Which site, when several were harvested.
    name
        Name of the dictionary; that of the shards unless given.
    splice
        Run the model with the dictionary spliced in to measure how much of its prediction is kept; --no-splice skips it.
    """
    from microtome.activations import Corpus, Shards
    from microtome.models import load
    from microtome.training import train as run_train

    with Session(common) as session:
        source = Shards.open(session.find("shards", shards))
        corpus = Corpus.open(session.workspace.by_id("corpus", source.corpus_id))
        config = train_config(recipe, source.site(site) if site else source.sites[0])
        model = None
        if splice:
            with session.step("load model"):
                model = load(source.model_ref, progress=session.progress)
        out = session.workspace.place("dictionary", name or source.path.name)
        with session.step("train", output=out) as step:
            trained = run_train(source, corpus, config=config, out=out, model=model, progress=session.progress)
            step.count(config.tokens, "tokens")
        result = {"dictionary": {"path": str(trained.path), "id": trained.id}, "lr": trained.lr, "quality": trained.quality}
        session.result(result, quality_table(trained.quality, source.quantised), f"next: microtome index {out.name}")


def train_config(recipe: Recipe, site: "microtome.models.Site") -> "microtome.training.TrainConfig":
    """The `TrainConfig` for what was asked on the command line; what was not asked keeps the recipe's default."""
    from microtome.dictionaries import TopK
    from microtome.training import TrainConfig

    return TrainConfig(
        reads=(site,),
        d_dict=recipe.features,
        nonlinearity=TopK(k=recipe.k),
        tokens=recipe.tokens,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        seed=recipe.seed,
    )


def quality_table(quality: "microtome.training.Quality", quantised: str | None) -> Table:
    """The held-out figures beside their controls."""
    remark = f"; the model is {quantised} (quantised)" if quantised else ""
    table = titled(f"quality on held-out tokens{remark}")
    for heading in ("figure", "value", "95 % interval", "random", "mean"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    figures = (quality.fvu, quality.ce_recovered, quality.l0, quality.dead_share)
    for result in figures:
        if result is None:
            continue
        interval = "–" if result.low is None or result.high is None else f"{result.low:.4g} … {result.high:.4g}"
        controls = [f"{result.baselines[name]:.4g}" if name in result.baselines else "–" for name in ("random", "mean")]
        value = count(result.value) if float(result.value).is_integer() else f"{result.value:.4g}"
        table.add_row(result.name, f"{value} {result.unit}".strip(), interval, *controls)
    if quality.ce_undefined:
        table.caption = f"cross-entropy recovered is not defined: {quality.ce_undefined}"
    return table
