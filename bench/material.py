"""The text and the dictionary that the scripts on features give to microtome and to its peers alike.

The text is Wikipedia's introductions, cut into documents of 1,024 tokens, so that every context is full and all read the same tokens. The
dictionary has 4,608 features, k 32, at layer 15 of the demo model: a feature is the activation of one token of the text, centred and divided by
the columns' variances; so features are selective without a training.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import say

from microtome.activations import Corpus, CorpusConfig, build_corpus
from microtome.artifacts import Draft, Workspace
from microtome.dictionaries import SAE, TopK, save
from microtome.models import Model, Site

WORK = (Path(__file__).parent / ".work" / "features").resolve()  # its path is part of what the corpus was made from
SITE, D_DICT, K = Site("resid_post", 15), 4_608, 32
DOCUMENT = 1_024


@dataclass(frozen=True, kw_only=True)
class Material:
    """What all are given."""

    workspace: Workspace
    corpus: Corpus
    dictionary: Path
    weights: Path
    """The same dictionary as arrays: `W_enc`, `W_dec` [d_dict, d_model], `b_enc`, and `tokens` [contexts, context_length]."""
    tokens: Any


def material(model: Model, *, tokens: int, context_length: int) -> Material:
    """Text of so many tokens in contexts of one length, and the dictionary; kept in bench/.work."""
    name = f"text-{tokens}-{context_length}"
    workspace = Workspace(WORK / name)
    source = WORK / f"{name}.jsonl"
    if not source.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        _write_text(source, model, documents=tokens // DOCUMENT)
    config = CorpusConfig(source=str(source), context_length=context_length, skip_first=0, sink_norm_ratio=None)
    corpus = build_corpus(model, config, out=workspace.place("corpus", name))
    assert set(np.diff(corpus.context_start).tolist()) == {context_length}
    rows = np.asarray(corpus.tokens).reshape(-1, context_length)
    weights = WORK / f"{name}.npz"
    if not weights.exists():
        np.savez(weights, tokens=rows.astype(np.int64), **_weights(model, rows))
    dictionary = workspace.place("dictionary", name)
    if name not in workspace.names("dictionary"):
        with np.load(weights) as held:
            tensors = {key: torch.from_numpy(held[key]) for key in ("W_enc", "W_dec", "b_enc")} | {"b_dec": torch.zeros(model.d_model)}
        with Draft.open(dictionary, "dictionary", config={"name": name}, inputs={"corpus": corpus.id}) as draft:
            save(SAE(site=SITE, nonlinearity=TopK(k=K), weights=tensors, input_scale=1.0), draft)
            draft.finish()
    return Material(workspace=workspace, corpus=corpus, dictionary=dictionary, weights=weights, tokens=rows)


def _write_text(path: Path, model: Model, *, documents: int) -> None:
    """Documents of exactly 1,024 tokens: introductions one behind the other, cut where cutting the text does not change its tokens."""
    raw = build_corpus(model, CorpusConfig(source="wiki", max_tokens=2 * documents * DOCUMENT), out=path.with_suffix(".raw"))
    tokenizer, made, ids = model.tokenizer, 0, list[int]()
    with path.open("w") as file:
        for start, end in zip(raw.doc_start[:-1].tolist(), raw.doc_start[1:].tolist(), strict=True):
            ids += [*np.asarray(raw.tokens[start:end]).tolist(), *tokenizer.encode("\n\n")]
            if len(ids) < DOCUMENT or made == documents:
                continue
            whole = tokenizer.encode(tokenizer.text(ids))[:DOCUMENT]
            text = tokenizer.text(whole)
            if len(whole) == DOCUMENT and tokenizer.encode(text) == whole:
                file.write(json.dumps({"title": str(made), "text": text}) + "\n")
                made += 1
            ids = []
    assert made == documents, made
    say(f"{documents} documents of {DOCUMENT} tokens")


def _weights(model: Model, rows: Any) -> dict[str, Any]:
    """Directions of tokens of the text, whitened column by column."""
    drawn = torch.from_numpy(rows[: -(-2 * D_DICT // rows.shape[1])].astype(np.int64))
    x = torch.cat([model.capture(part, (SITE,))[SITE].flatten(0, 1).float() for part in drawn.split(16)])
    picked = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:D_DICT]
    mean, deviation = x.mean(0), x.std(0)
    directions = (x[picked] - mean) / deviation
    directions /= directions.norm(dim=1, keepdim=True)
    W_enc = directions / deviation
    W_dec = (x[picked] - mean) / (x[picked] - mean).norm(dim=1, keepdim=True)
    return {"W_enc": W_enc.numpy(), "W_dec": W_dec.numpy(), "b_enc": (-W_enc @ mean).numpy()}
