"""`microtome index`: what every feature of a dictionary responds to, over the whole corpus."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from microtome.artifacts import read_manifest
from microtome.cli.cards import plain, titled
from microtome.cli.session import Common, Session
from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.features


def index(
    dictionary: str | None = None,
    *,
    shards: str | None = None,
    name: str | None = None,
    device: str = "auto",
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Build the feature index: examples, densities, logits, neighbours and a rule label for every feature.

    Makes indexes/NAME in the workspace and fills its catalogue. Can be interrupted: the same command resumes.

    Examples:

        microtome index wiki

        microtome index wide --shards wiki

    Parameters
    ----------
    dictionary
        Name in the workspace, or path; not needed when there is only one.
    shards
        Activations to index, when they are not those the dictionary was trained on.
    name
        Name of the index; that of the dictionary unless given.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.activations import Corpus, Shards
    from microtome.features import build_index
    from microtome.models import load

    with Session(common) as session:
        workspace = session.workspace
        weights = session.find("dictionary", dictionary)
        source = Shards.open(session.find("shards", shards) if shards else workspace.by_id("shards", shards_of(weights)))
        corpus = Corpus.open(workspace.by_id("corpus", source.corpus_id))
        with session.step("load model"):
            model = load(source.model_ref, device=device, progress=session.progress)
        out = workspace.place("index", name or weights.name)
        with session.step("index", output=out) as step:
            features = build_index(weights, source, corpus=corpus, model=model, out=out, workspace=workspace, progress=session.progress)
            step.count(source.n_tokens, "tokens")
        overview = features.overview()
        session.result({"index": {"path": str(out)}, "overview": overview}, overview_table(overview), f"next: microtome serve {workspace.path}")


def shards_of(dictionary: Path) -> str:
    """The id of the shards that a dictionary was trained on, from its manifest."""
    return read_manifest(dictionary).inputs["shards"]


def overview_table(overview: "microtome.features.Overview") -> Table:
    """An index at a glance, for the terminal."""
    table = titled(f"index {overview.name}", show_header=False)
    table.add_column("what")
    table.add_column("value")
    for key in ("model", "reads", "corpus"):
        table.add_row(key, Text(plain(overview.sources[key])))
    for key, value in overview.counts.items():
        table.add_row(key, count(value))
    table.add_row("active features a token", f"{overview.l0:.1f}")
    table.add_row("rule labels", ", ".join(f"{count(n)} {kind}" for kind, n in overview.rules.items()))
    return table
