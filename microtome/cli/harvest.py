"""`microtome harvest`: a model reads a corpus, and the activations at some sites are kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from microtome.cli.session import Common, Session
from microtome.cli.words import count, size


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Text:
    """Which texts, how they are cut, and what is left out."""

    text_key: str | None = None
    """Field or column that holds the text or the messages."""
    label_key: str | None = None
    """Field or column that holds a label of the document."""
    max_tokens: int | None = None
    """At most this many tokens, whole documents picked at random with the seed."""
    max_documents: int | None = None
    """At most this many documents."""
    context_length: int = 256
    """Tokens that the model sees at once."""
    bos: Literal["none", "document", "context"] = "none"
    """Where the tokenizer's BOS token is put."""
    skip_invalid: Annotated[bool, Parameter(negative=())] = False
    """Skip and count records that cannot be read, instead of stopping."""
    seed: int = 0
    """Picks the documents and their split into train, dev and test."""


def harvest(
    model: str,
    *,
    corpus: str,
    site: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)],
    name: str | None = None,
    text: Text = Text(),
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    device: str = "auto",
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Run a model over a corpus and keep its activations at one or more sites.

    Makes corpora/NAME and shards/NAME in the workspace. Can be interrupted: the
    same command resumes, and the result is the same.

    Examples:

    Ten thousand introductions from Wikipedia (packaged), after layer 15 of the demo model:

        microtome harvest demo --corpus wiki --site L15.resid_post

    Your own texts, two sites, a model from the hub:

        microtome harvest Qwen/Qwen2.5-0.5B --corpus chats.jsonl --site L8.resid_post L8.mlp_out

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    corpus
        A .txt, .jsonl or .parquet file, a folder of them, `wiki`, `chitchat`, `recipes`, or a data set's name on the hub.
    site
        Where to read, e.g. L15.resid_post; `microtome check MODEL` lists the sites.
    name
        Name of the corpus and the shards in the workspace; the corpus' own name unless given.
    dtype
        How activations are stored.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.activations import CorpusConfig, HarvestConfig, build_corpus
    from microtome.activations import harvest as run_harvest
    from microtome.models import load

    config = CorpusConfig(
        source=corpus,
        text_key=text.text_key,
        label_key=text.label_key,
        max_documents=text.max_documents,
        max_tokens=text.max_tokens,
        context_length=text.context_length,
        bos=text.bos,
        invalid="skip" if text.skip_invalid else "error",
        seed=text.seed,
    )
    called = name or plain_name(corpus)
    with Session(common) as session:
        place = session.workspace.place
        with session.step("load model"):
            loaded = load(model, device=device, progress=session.progress)
        sites = tuple(loaded.site(each) for each in site)
        with session.step("corpus", output=place("corpus", called)) as step:
            texts = build_corpus(loaded, config, out=place("corpus", called), progress=session.progress)
            step.count(texts.n_tokens, "tokens")
        with session.step("harvest", output=place("shards", called)) as step:
            wanted = HarvestConfig(sites=sites, dtype=dtype)
            shards = run_harvest(loaded, texts, config=wanted, out=place("shards", called), progress=session.progress)
            step.count(shards.n_tokens, "tokens")
        result = {
            "corpus": {"path": str(texts.path), "id": texts.id, "documents": texts.n_docs, "tokens": texts.n_tokens},
            "shards": {"path": str(shards.path), "id": shards.id, "tokens": shards.n_tokens, "kept": shards.n_kept, "sites": list(map(str, sites))},
        }
        written = sum(cost.bytes_written for cost in session.ledger.session)
        session.result(
            result,
            f"{count(shards.n_tokens)} tokens of {count(texts.n_docs)} documents at {', '.join(map(str, sites))}; "
            f"{count(shards.n_kept)} kept for training; {size(written)} in {session.workspace.path}",
            f"next: microtome train {called}",
        )


def plain_name(source: str) -> str:
    """A corpus' own name: the stem of its file or folder, or the last part of its name on the hub."""
    stem = Path(source.rstrip("/")).name
    return stem.split(".")[0] or "corpus"
