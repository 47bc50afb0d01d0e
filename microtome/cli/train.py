"""`microtome train`: activations become a dictionary of features."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from microtome.cli.cards import titled
from microtome.cli.many import Many, make_recipe
from microtome.cli.session import Common, Session
from microtome.cli.sweep import run_sweep
from microtome.cli.values import parse_value
from microtome.cli.words import count
from microtome.errors import ConfigError

if TYPE_CHECKING:
    import microtome.activations
    import microtome.models
    import microtome.stats
    import microtome.training


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The sizes and the schedule; the defaults are sensible."""

    features: int = 4608
    """Features in the dictionary (d_dict), of each layer's in a set."""
    k: int = 32
    """Features active on a token, where --nonlinearity does not say."""
    tokens: int = 2_000_000
    """Tokens trained on; more than the training documents hold means several epochs."""
    batch_size: int = 4096
    """Tokens a step."""
    lr: float | None = None
    """Learning rate; by default a short search finds it."""
    distributed: Literal["data", "features"] | None = None
    """Under torchrun, what its processes share: the rows of each batch, or the features of the dictionary. The result is that of one process."""
    seed: int = 0
    """Of the initial weights and the order of the tokens."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is trained; by default a TopK sparse autoencoder of one site."""

    kind: Literal["sae", "transcoder", "layers", "cross-layer", "crosscoder"] = "sae"
    """sae, of one site; transcoder, from one to another; layers, one for each; cross-layer, writing to all later layers; crosscoder, of several."""
    reads: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    """Sites read, e.g. L3.mlp_in; by default the only one, or what every layer's MLP reads."""
    beside: str | None = None
    """Shards of a second model on the same corpus, read side by side; its sites are named with #2, e.g. L15.resid_post#2."""
    writes: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    """Sites reconstructed; by default what is read, or what every layer's MLP writes."""
    nonlinearity: str | None = None
    """topk:k=32, batchtopk:k=32, abstopk:k=32, relu, jumprelu or gated."""
    losses: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    """Beside the squared error: l1:coefficient=0.1, tanh, l0:target=40, preact, matryoshka:prefixes=512/1024 or nested:prefix=512."""
    pooling: Literal["token", "turn", "last", "residual"] = "token"
    """What a row is: a token, the mean of a turn, its last token, or a token less the mean of its turn."""
    skip: Annotated[bool, Parameter(negative=())] = False
    """Give transcoders an affine path beside their features."""
    tied_decoder: Annotated[bool, Parameter(negative=())] = False
    """Let a cross-layer transcoder's features write one direction at every layer."""


def train(
    shards: str | None = None,
    *,
    site: str | None = None,
    name: str | None = None,
    architecture: Architecture = Architecture(),
    recipe: Recipe = Recipe(),
    many: Many = Many(),  # noqa: B008  frozen
    splice: Annotated[bool, Parameter(negative="--no-splice")] = True,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Train a dictionary on harvested activations, and measure it on held-out tokens.

    Makes dictionaries/NAME in the workspace; without options, a TopK sparse
    autoencoder. Can be interrupted: the same command resumes from the last
    checkpoint, with the same result. Quality stands beside controls: a random
    dictionary, PCA and k-means (or an MLP's own neurons), and the mean.

    Examples:

        microtome train wiki

        microtome train wiki --features 18432 --k 64 --name wide

        microtome train wiki --nonlinearity batchtopk:k=32

        microtome train wiki --losses matryoshka:prefixes=512/1024

        microtome train wiki --nonlinearity jumprelu --losses l0:target=40

        microtome train mlp --kind transcoder --reads L3.mlp_in --skip

        microtome train mlp --kind layers --features 2048 --k 16

        microtome train mlp --kind cross-layer --features 1024 --k 8

        microtome train residuals --kind crosscoder --reads L8.resid_post L9.resid_post

        microtome train base --beside chat --kind crosscoder

        microtome train chats --pooling turn --batch-size 256

    Many runs on one pass, and a run from text that is written down:

        microtome train wiki --sweep k=8,16,32,64 --sweep seed=0,1

        microtome train --recipe demo-plt

    Several processes that train one dictionary, each with a part of it:

        torchrun --nproc-per-node 2 -m microtome train wiki --distributed features

    Parameters
    ----------
    shards
        Name in the workspace, or path; not needed when there is only one.
    site
        Which site, when several were harvested: the same as --reads with one site.
    name
        Name of the dictionary; that of the shards unless given.
    splice
        Run the model with the dictionary spliced in to measure how much of its prediction is kept; --no-splice skips it.
    """
    asked = architecture if site is None else replace(architecture, reads=(*architecture.reads, site))
    check_alone(recipe.distributed, several=many.recipe is not None or bool(many.sweep))
    with Session(common) as session:
        if recipe.distributed is not None:
            train_together(session, shards, name=name, architecture=asked, recipe=recipe, splice=splice)
        elif many.recipe is None:
            _from_shards(session, shards, name=name, architecture=asked, recipe=recipe, sweep=many.sweep, splice=splice)
        else:
            features, tokens = (value if value != default else None for value, default in _sizes(recipe))
            make_recipe(session, many.recipe, name=name, reads=asked.reads, features=features, tokens=tokens)


def _sizes(recipe: Recipe) -> tuple[tuple[int, int], ...]:
    """Features and tokens, each beside its default."""
    return (recipe.features, Recipe.features), (recipe.tokens, Recipe.tokens)


def check_alone(distributed: str | None, *, several: bool) -> None:
    """Raise `ConfigError` where `torchrun`'s processes would each do the same, or would share what is not one dictionary."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if distributed is None and processes > 1:
        do = "Add --distributed data or --distributed features, or start one process without torchrun."
        raise ConfigError("the processes were not told what to share.", got=f"{processes} processes", wanted="--distributed", do=do)
    if distributed is not None and several:
        do = "Leave --distributed out: the runs of a sweep share a pass already."
        raise ConfigError("sweeps and recipes train in one process.", got=f"--distributed {distributed}", wanted="one dictionary from shards", do=do)


def train_together(session: Session, shards: str | None, *, name: str | None, architecture: Architecture, recipe: Recipe, splice: bool) -> None:
    """Train one dictionary with the other processes of `torchrun`; the first of them alone speaks."""
    from microtome.training import joined

    assert recipe.distributed is not None
    with joined(recipe.distributed) as group:
        if not group.leads:
            session.silence()
        _from_shards(session, shards, name=name, architecture=architecture, recipe=recipe, splice=splice, group=group)


def _from_shards(
    session: Session,
    shards: str | None,
    *,
    name: str | None,
    architecture: Architecture,
    recipe: Recipe,
    splice: bool,
    sweep: tuple[str, ...] = (),
    group: "microtome.training.Group | None" = None,
) -> None:
    """Train one dictionary on shards of the workspace, or a sweep of them."""
    from microtome.activations import Corpus, Shards, SideBySide
    from microtome.dictionaries import DictionarySet
    from microtome.models import load
    from microtome.training import ALONE, StoredRows
    from microtome.training import train as run_train

    own = Shards.open(session.find("shards", shards))
    source = own if architecture.beside is None else SideBySide(own, Shards.open(session.find("shards", architecture.beside)))
    corpus = Corpus.open(session.workspace.by_id("corpus", source.corpus_id))
    config = train_config(recipe, architecture, sites=source.sites)
    model = None
    together = group or ALONE
    if splice and together.leads and source is own:
        with session.step("load model"):
            model = load(source.model_ref, progress=session.progress)
    turns = _turns(session, own, corpus=corpus, config=config) if together.leads else None
    together.said("turns are pooled")
    turns = turns or _turns(session, own, corpus=corpus, config=config)
    if sweep:
        rows = StoredRows(shards=source, corpus=corpus, turns=turns)
        run_sweep(session, rows, base=config, axes=sweep, name=name or own.path.name, model=model)
        return
    out = session.workspace.place("dictionary", name or own.path.name)
    with session.step("train", output=out) as step:
        trained = run_train(source, corpus, config=config, out=out, model=model, turns=turns, progress=session.progress, group=together)
        step.count(config.tokens, "tokens")
    result = {"dictionary": {"path": str(trained.path), "id": trained.id}, "lr": trained.lr, "quality": trained.quality}
    session.result(
        result,
        quality_table(trained.quality, source.quantised),
        f"next: microtome {'show' if isinstance(trained.dictionary, DictionarySet) else 'index'} {out.name}",
    )


def train_config(
    recipe: Recipe, architecture: Architecture = Architecture(), *, sites: "tuple[microtome.models.Site, ...]"
) -> "microtome.training.TrainConfig":
    """The `TrainConfig` for what was asked on the command line; what was not asked keeps the recipe's default."""
    from microtome.dictionaries import NONLINEARITIES, TopK
    from microtome.training import LOSSES, Build, TrainConfig

    reads, writes = chosen_sites(architecture, sites)
    chosen = architecture.nonlinearity
    return TrainConfig(
        kind=architecture.kind,
        reads=reads,
        writes=writes,
        pooling=architecture.pooling,
        nonlinearity=TopK(k=recipe.k) if chosen is None else parse_value(chosen, NONLINEARITIES),
        losses=tuple(parse_value(loss, LOSSES) for loss in architecture.losses),
        d_dict=recipe.features,
        tokens=recipe.tokens,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        seed=recipe.seed,
        build=Build(skip=architecture.skip, tied_decoder=architecture.tied_decoder),
    )


class Ends(NamedTuple):
    """What a dictionary reads and writes."""

    reads: "tuple[microtome.models.Site, ...]"
    writes: "tuple[microtome.models.Site, ...]"


def chosen_sites(architecture: Architecture, sites: "tuple[microtome.models.Site, ...]") -> Ends:
    """Those named, else what the kind reads and writes by custom, of the sites that were harvested."""
    from microtome.models import Site

    reads, writes = (tuple(Site.parse(site) for site in named) for named in (architecture.reads, architecture.writes))
    if architecture.kind == "sae":
        return Ends(reads or sites[:1], writes)
    if architecture.kind == "crosscoder":
        return Ends(reads or sites, writes)
    inputs = tuple(site for site in sites if site.kind == "mlp_in" and Site("mlp_out", site.layer) in sites)
    if not reads and not inputs:
        wanted = "L0.mlp_in and L0.mlp_out, and so on"
        do = "Harvest every layer's mlp_in and mlp_out, or name the sites with --reads and --writes."
        raise ConfigError("the shards hold no layer's MLP from end to end.", got=", ".join(map(str, sites)), wanted=wanted, do=do)
    reads = reads or inputs
    return Ends(reads, writes or tuple(Site("mlp_out", site.layer) if site.kind == "mlp_in" else site for site in reads))


def _turns(
    session: Session, source: "microtome.activations.Shards", *, corpus: "microtome.activations.Corpus", config: "microtome.training.TrainConfig"
) -> "microtome.activations.Pooled | None":
    """The pooled rows that a config needs, made beside the shards unless they are there."""
    from microtome.activations import PoolingConfig, pool
    from microtome.training import needs_turns

    over = needs_turns(config)
    if over is None:
        return None
    out = session.workspace.place("pooled", f"{source.path.name}-{over}")
    with session.step("pool", output=out) as step:
        pooled = pool(source, corpus, config=PoolingConfig(over=over), out=out, progress=session.progress)
        step.count(pooled.n_rows, "rows")
    return pooled


def quality_table(quality: "microtome.training.Quality", quantised: str | None) -> Table:
    """The held-out figures beside their controls, and why a control is not there."""
    from microtome.training import CONTROLS

    remark = f"; the model is {quantised} (quantised)" if quantised else ""
    table = titled(f"quality on held-out tokens{remark}")
    beside = [name for name in CONTROLS if name in quality.fvu.baselines]
    for heading in ("figure", "value", "95 % interval", *beside):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    figures = (quality.fvu, quality.ce_recovered, quality.l0, quality.dead_share)
    for result in figures:
        if result is None:
            continue
        value = count(result.value) if float(result.value).is_integer() else f"{result.value:.4g}"
        table.add_row(result.name, f"{value} {result.unit}".strip(), _interval(result), *_beside(result, beside))
    for each in quality.by_site:
        fvu, recovered = each.fvu, each.ce_recovered
        value = f"{fvu.value:.4g}" + ("" if recovered is None else f", {recovered.value:.4g} of CE alone")
        table.add_row(f"FVU {each.site}", value, _interval(fvu), *_beside(fvu, beside))
    remarks = [f"no {name} control: {why}" for name, why in quality.controls_left_out.items()]
    if quality.ce_undefined:
        remarks.insert(0, f"cross-entropy recovered is not defined: {quality.ce_undefined}")
    table.caption = Text("\n".join(remarks), justify="left") if remarks else None
    return table


def _interval(result: "microtome.stats.Result") -> str:
    return "–" if result.low is None or result.high is None else f"{result.low:.4g} … {result.high:.4g}"


def _beside(result: "microtome.stats.Result", names: list[str]) -> list[str]:
    return [f"{result.baselines[name]:.4g}" if name in result.baselines else "–" for name in names]
