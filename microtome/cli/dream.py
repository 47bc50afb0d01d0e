"""`microtome dream`: prompts that drive a feature, as strong and fluent as can be found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Group
from rich.text import Text

from microtome.cli.cards import plain
from microtome.cli.listing import Listing
from microtome.cli.session import Common, Session
from microtome.cli.words import count
from microtome.config import fingerprint

if TYPE_CHECKING:
    import microtome.features.dreaming

Whole = Annotated[int, Parameter(validator=Number(gte=1))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DreamOptions:
    """How long and how hard to dream."""

    length: Whole = 12
    """Tokens of a prompt."""
    iterations: Whole = 100
    """Rounds of evolution."""
    population: Whole = 8
    """Parents, each weighing fluency against activation in its own way."""
    children: Whole = 8
    """New prompts of each parent in a round."""
    start: Literal["random", "corpus"] = "random"
    """Begin from random tokens, or from the strongest texts of the corpus."""
    at: Literal["last", "any"] = "last"
    """Where the activation counts: on the last token, or on the strongest."""
    seed: int = 0
    """Seed of the evolution; the same one gives the same dream."""


def dream(
    index: str,
    feature: int,
    *,
    site: str | None = None,
    feeds: Annotated[bool, Parameter(negative=())] = False,
    options: DreamOptions = DreamOptions(),
    device: str = "auto",
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Dream prompts that make a feature fire, as strong and as fluent as can be found, beside the corpus' own.

    Prompts evolve towards a large activation and a small cross-entropy under the
    model; what none of the others beats in both is the result, beside the same
    for the corpus' own text. Either may be ahead, and the result says which. Can be
    interrupted: what was found so far is printed, and the same command resumes.

    Examples:

        microtome dream wiki 1234

        microtome dream wiki 1234 --iterations 300 --start corpus

    What feature 17 of layer 3 feeds, rather than the feature itself:

        microtome dream demo-plt 17 --site L3.mlp_in --feeds

    Parameters
    ----------
    index
        Name of an index, or its path.
    feature
        Number of a feature of the index, or with --site of the dictionary that reads there.
    site
        The site whose dictionary the feature is of, in an index of several.
    feeds
        Drive the features that it promotes most (TWERA) instead of the feature.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.features import FeatureIndex
    from microtome.features.dreaming import DreamConfig, downstream_target, feature_target, read_dream
    from microtome.features.dreaming import dream as run_dream
    from microtome.models import load

    with Session(common) as session:
        opened = FeatureIndex.open(session.find("index", index), session.workspace)
        known = feature if site is None else opened.feature(site, feature)
        target = downstream_target(opened, known) if feeds else feature_target(opened, known)
        config = DreamConfig(**{name: getattr(options, name) for name in DreamOptions.__dataclass_fields__})
        name = f"{opened.name}-{known}{'-feeds' if feeds else ''}-{fingerprint({'config': config, 'index': opened.id})[:6]}"
        out = session.workspace.place("dream", name)
        with session.step("load model"):
            model = load(opened.overview().sources["model"], device=device, progress=session.progress)
        try:
            with session.step("dream", output=out):
                made = run_dream(opened, model, target=target, config=config, out=out, progress=session.progress)
        except KeyboardInterrupt:
            if (out / "state.json").is_file():
                half = read_dream(out)
                session.result({"dream": half, "path": str(out)}, dream_view(half))
            raise
        session.result({"dream": made, "path": str(out)}, dream_view(made), _kept(out))


def dream_view(made: "microtome.features.dreaming.Dream") -> Group:
    """Both fronts: what was dreamt and what the corpus has."""
    state = f"{count(made.iterations)} of {count(made.planned)} iterations, {count(made.prompts)} prompts, {count(made.tokens_run)} tokens run"
    head = Text(f"{made.name} of {made.index}: {plain(made.label)}\n{state}; 100 % is {made.store_max:.3g}, the largest in the store", style="bold")
    dreamt = Listing(
        title="dreamt: no other prompt is both stronger and more fluent",
        headings=("activation", "of the store's", "cross-entropy", "corpus at that", "prompt"),
        rows=[
            (*_figures(one), "none so fluent" if one.corpus_share is None else f"{one.corpus_share:.0%}", "".join(one.pieces)) for one in made.front
        ],
        texts=("prompt",),
    )
    own = Listing(
        title=f"the corpus' own: {count(made.corpus_texts)} texts of {made.length} tokens that end on its strongest firings",
        headings=("activation", "of the store's", "cross-entropy", "text"),
        rows=[(*_figures(one), "".join(one.pieces)) for one in made.corpus_front],
        texts=("text",),
    )
    return Group(head, dreamt, own, Text(standing(made)))


def _figures(one: "microtome.features.dreaming.Dreamed") -> tuple[str, str, str]:
    return f"{one.activation:.3g}", f"{one.share:.0%}", f"{one.cross_entropy:.2f} nats"


def standing(made: "microtome.features.dreaming.Dream") -> str:
    """Which of the two fronts is ahead, by the areas of activation and fluency that they dominate."""
    area, corpus = made.hypervolumes[-1] if made.hypervolumes else 0.0, made.corpus_hypervolume
    ahead = "the dream is ahead of the corpus" if area > corpus else "the corpus is ahead of the dream" if area < corpus else "neither is ahead"
    return f"{ahead}: the front of the dream dominates an area of {area:.2f}, that of the corpus {corpus:.2f}"


def _kept(out: Path) -> str:
    return f"kept: {out}"
