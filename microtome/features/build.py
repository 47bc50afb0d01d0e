"""Building an index: one streaming pass over the activations, then everything that can be counted from the postings."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from microtome.activations import Corpus, Shards
from microtome.artifacts import Artifact, Draft, Workspace, existing
from microtome.config import to_dict
from microtome.devices import give_back_memory
from microtome.dictionaries import load_any
from microtome.errors import ShapeMismatch, TokenOutOfRange
from microtome.features.config import IndexConfig
from microtome.features.context import context_of
from microtome.features.describe import Describe
from microtome.features.index import FeatureIndex
from microtome.features.members import Members
from microtome.features.norms import FILE as NORMS
from microtome.features.norms import Norms
from microtome.features.passes import ForwardPass, Pass, ShardPass
from microtome.features.postings import INVERTED, Postings, forward_name, pack_inverted, write_forward, write_inverted
from microtome.features.rows import FILE, write_rows
from microtome.features.rules import rulebook
from microtome.features.statistics import totals_of
from microtome.features.store import FACTS, VOCABULARY
from microtome.features.text import Vocabulary
from microtome.models import Model
from microtome.progress import Progress, Throttled

QUALITY = "quality.json"
"""File of a dictionary artifact with its held-out figures."""


def build_index(
    dictionary: str | Path,
    shards: Shards | None = None,
    *,
    corpus: Corpus,
    model: Model,
    out: str | Path,
    config: IndexConfig = IndexConfig(),  # noqa: B008  frozen
    progress: Progress | None = None,
    workspace: Workspace | None = None,
) -> FeatureIndex:
    """Make the index artifact at `out` of a dictionary artifact, one or a set, over a corpus, or open it when it is there already.

    The activations come from `shards`, where they hold every site that is read, or else from one forward of the model over the corpus in which all
    sites are captured together and nothing but the codes is kept. The ranges of tokens are encoded one by one, each into its own file, so an
    interrupted build resumes behind the last finished one; the result is byte-identical to that of an uninterrupted one. With shards the model is
    not run: it gives the unembedding, the norms and the vocabulary. `workspace` (by default the one that `out` lies in) holds the catalogue that
    receives the rule labels.

    Raises `ShapeMismatch` when they do not belong together, `SiteNotFound` when the shards or the model lack a site, `ActivationsNotFinite`,
    `ArtifactConflict`, `WorkspaceBusy` and `DiskFull`.
    """
    artifact = Artifact.open(dictionary, "dictionary")
    members = Members(load_any(dictionary))
    _check_fit(members, shards, corpus=corpus, model=model)
    inputs = {"corpus": corpus.id, "dictionary": artifact.id, "model": model.fingerprint}
    if shards is not None:
        inputs["shards"] = shards.id
    if existing(out, "index", config=config, inputs=inputs) is None:
        tell = Throttled(progress)
        with Draft.open(out, "index", config=config, inputs=inputs) as draft:
            norms = Norms(members, model, available=None if shards is None else shards.sites)
            source = _pass(members, shards, corpus=corpus, model=model, norms=norms)
            _write_postings(draft, source, members, norms=norms, config=config, tell=tell)
            _write_norms(draft, norms)
            give_back_memory()
            vocabulary = Vocabulary.of(_bytes_or_nothing(model), n_vocab=len(model.tokenizer))
            with draft.place(VOCABULARY) as file:
                vocabulary.write(file)
            postings = _postings(draft, source.ranges)
            context = context_of(corpus, keep=postings.keep())
            totals = totals_of(context, n_vocab=max(model.n_vocab, len(vocabulary), int(context.tokens.max(initial=0)) + 1))
            rules = rulebook(context, vocabulary, fire_share=config.fire_share)
            describe = Describe(postings=postings, context=context, totals=totals, rules=rules, vocabulary=vocabulary, config=config)
            with draft.place(FILE) as file:
                write_rows(file, describe.tables(members, model, tell=tell))
            facts = _facts(members, source.ranges, model=model, artifact=artifact, norms=norms)
            parts = {name: dict(zip(names, totals.parts[name].tolist(), strict=True)) for name, (_, names) in context.breakdowns.items()}
            facts |= {"tokens": corpus.n_tokens, "kept": totals.kept, "documents": context.n_docs, "parts": parts}
            facts["offset_edges"] = totals.offset_edges.tolist()
            draft.write(FACTS, json.dumps(to_dict(facts), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
            draft.finish(summary={"features": len(members.numbering), "tokens": totals.kept, "nonzeros": postings.nnz, "model": model.ref})
    return FeatureIndex.open(out, workspace)


def _check_fit(members: Members, shards: Shards | None, *, corpus: Corpus, model: Model) -> None:
    if shards is not None and shards.corpus_id != corpus.id:
        do = "Open the corpus that the shards were harvested from: Corpus.open(workspace.by_id('corpus', shards.corpus_id))."
        raise ShapeMismatch("the shards are of another corpus.", got=corpus.id, wanted=shards.corpus_id, do=do)
    if shards is not None and shards.model_fingerprint != model.fingerprint:
        do = f"Load the model that the shards were harvested from: {shards.model_ref}, in the same dtype."
        raise ShapeMismatch("the shards are of another model.", got=model.fingerprint, wanted=shards.model_fingerprint, do=do)
    for member, dictionary in enumerate(members.dictionaries):
        for site, width in zip(dictionary.inputs, members.widths(member), strict=True):
            found = model.width(site) if shards is None else shards.width(site)
            if found != width:
                do = "Use the shards that the dictionary was trained on." if shards is not None else "Load the model that it was trained on."
                raise ShapeMismatch(f"the dictionary does not fit at {site}.", got=width, wanted=found, do=do)
        if dictionary.pooling != "token":
            do = "Index a dictionary of single tokens."
            raise ShapeMismatch("the dictionary does not read tokens.", got=f"pooling {dictionary.pooling}", wanted="pooling token", do=do)


def _pass(members: Members, shards: Shards | None, *, corpus: Corpus, model: Model, norms: Norms) -> Pass:
    sites = tuple(sorted({*members.inputs, *norms.streams}))
    if shards is not None:
        return ShardPass(shards, sites)
    return ForwardPass(model, corpus, sites=sites, counted=members.inputs)


def _facts(members: Members, ranges: Sequence[tuple[int, int]], *, model: Model, artifact: Artifact, norms: Norms) -> dict[str, Any]:
    """What the index says about its origin, for pages that open neither the model nor the dictionary."""
    quality = json.loads(artifact.file(QUALITY).read_bytes()) if QUALITY in artifact.manifest.files else {}
    sites = members.numbering.sites
    return {
        "model": model.ref,
        "quantised": model.quantised or "",
        "reads": str(sites[0]) if len(sites) == 1 else f"{len(sites)} sites, {sites[0]} to {sites[-1]}",
        "members": [{"reads": str(each.reads), "writes": list(map(str, each.writes)), "features": each.d_dict} for each in members.dictionaries],
        "norms": [read.to_json() for read in norms.reads],
        "ranges": [list(span) for span in ranges],
        "quality": quality,
        "bos": model.tokenizer.bos,
        "break": model.tokenizer.encode("\n"),
        "special": sorted(model.tokenizer.special_ids),
    }


def _write_postings(draft: Draft, source: Pass, members: Members, *, norms: Norms, config: IndexConfig, tell: Throttled) -> None:
    n_tokens = source.ranges[-1][1] if source.ranges else 0
    for number, (_, end) in enumerate(source.ranges):
        if not draft.has(forward_name(number)):
            with draft.place(forward_name(number)) as file:
                write_forward(file, source, number, members=members, scales=norms.scales, values=config.values)
        tell("encode the activations", end, n_tokens, unit="tokens")
    if not draft.has(INVERTED):
        with draft.place(INVERTED) as file:
            files = [draft.path / forward_name(number) for number in range(len(source.ranges))]
            n, starts = len(files), [start for start, _ in source.ranges]
            raw = file.with_name(f"raw.{file.name}") if config.packed else file
            write_inverted(
                raw,
                files,
                d_dict=len(members.numbering),
                starts=starts,
                tick=lambda number: tell("invert the postings", number + 1, n, unit="shards"),
            )
            if config.packed:
                pack_inverted(raw, file)
                raw.unlink()


def _write_norms(draft: Draft, norms: Norms) -> None:
    gains = norms.gains()
    if gains and not draft.has(NORMS):
        with draft.place(NORMS) as file:
            save_file(gains, file)


def _postings(draft: Draft, ranges: Sequence[tuple[int, int]]) -> Postings:
    forward = [draft.path / forward_name(number) for number in range(len(ranges))]
    return Postings(forward, draft.path / INVERTED, ranges=ranges)


def _bytes_or_nothing(model: Model) -> Callable[[int], bytes]:
    """The bytes of a token, none for a place of the vocabulary that stands for nothing."""

    def look_up(token: int) -> bytes:
        try:
            return model.tokenizer.token_bytes(token)
        except TokenOutOfRange:
            return b""

    return look_up
