"""`microtome index`: what every feature of a dictionary responds to, over the whole corpus."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from microtome.artifacts import Manifest, read_manifest
from microtome.cli.cards import plain, titled
from microtome.cli.measured import Measured, measure
from microtome.cli.session import Common, Session
from microtome.cli.words import count
from microtome.errors import ArtifactMissing

if TYPE_CHECKING:
    import microtome.features


def index(
    dictionary: str | None = None,
    *,
    shards: str | None = None,
    corpus: str | None = None,
    model: str | None = None,
    name: str | None = None,
    device: str = "auto",
    measured: Measured = Measured(),  # noqa: B008  frozen
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Build the feature index: examples, densities, logits, neighbours and a rule label for every feature.

    A set of dictionaries (one a layer) is indexed in one pass of the model over
    the corpus, without activations on disk.

    Makes indexes/NAME in the workspace and fills its catalogue. Can be interrupted: the same command resumes.

    Examples:

        microtome index wiki

        microtome index wide --shards wiki

    A set of transcoders, over the corpus that it was trained on or another one:

        microtome index demo-plt

        microtome index demo-plt --corpus wiki --model demo

    With what is measured by running the model: the effect of 200 features on
    the output, each on its own examples, and the loss of every token:

        microtome index wiki --effects 200 --losses

    Parameters
    ----------
    dictionary
        Name in the workspace, or path; not needed when there is only one.
    shards
        Activations to index, when they are not those the dictionary was trained on.
    corpus
        Run the model over this corpus instead of reading shards.
    model
        The model to run, when it is not the one that the dictionary names.
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
        manifest = read_manifest(weights)
        source = None
        if shards is not None or (corpus is None and "shards" in manifest.inputs):
            source = Shards.open(session.find("shards", shards) if shards else workspace.by_id("shards", manifest.inputs["shards"]))
        read = Corpus.open(_corpus(session, corpus, known=manifest.inputs.get("corpus") if source is None else source.corpus_id))
        with session.step("load model"):
            loaded = load(model or (_named_model(manifest) if source is None else source.model_ref), device=device, progress=session.progress)
        out = workspace.place("index", name or weights.name)
        with session.step("index", output=out) as step:
            features = build_index(weights, source, corpus=read, model=loaded, out=out, workspace=workspace, progress=session.progress)
            step.count(read.n_tokens, "tokens")
        figures = measure(session, features, asked=measured, model=loaded, corpus=read)
        overview = features.overview()
        session.result(
            {"index": {"path": str(out)}, "overview": overview, **figures}, overview_table(overview), f"next: microtome serve {workspace.path}"
        )


def _corpus(session: Session, name: str | None, *, known: str | None) -> Path:
    """The corpus of that name, or the one with the id that the shards or the dictionary name."""
    return session.find("corpus", name) if name is not None or known is None else session.workspace.by_id("corpus", known)


def _named_model(manifest: Manifest) -> str:
    """The model that a dictionary was trained on, from its summary, where it stands with its quantisation: `demo (Q4_1)`."""
    said = str(manifest.summary.get("model", ""))
    if not said:
        do = "Give the model: microtome index NAME --model demo."
        raise ArtifactMissing("the dictionary does not say which model it is of.", got="no model in its summary", wanted="a model", do=do)
    return said.partition(" (")[0]


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
