"""A corpus answers, for every token, which document, context, turn and split it belongs to; brute force is the oracle."""

from pathlib import Path

import numpy as np
import pytest
from activations.texts import Build, WriteLines, words

from microtome.activations import POSITION, SPLITS, TEMPLATE, Corpus
from microtome.errors import ArtifactDamaged, DocumentNotFound


@pytest.fixture
def corpus(build: Build, jsonl: WriteLines) -> Corpus:
    chat = [{"role": "user", "content": "of the river"}, {"role": "assistant", "content": "seven stone"}]
    plain = [{"text": words(i, 4 + 3 * i), "title": f"t{i}", "topic": "xy"[i % 2]} for i in range(12)]
    return build(jsonl([*plain, {"messages": chat, "topic": ""}, {"messages": chat[:1], "topic": "x"}]), context_length=24, label_key="topic")


def test_documents_and_contexts_of_positions(corpus: Corpus) -> None:
    docs = [doc for doc in range(corpus.n_docs) for _ in range(len(corpus.span(doc)))]
    assert corpus.doc_of(range(corpus.n_tokens)).tolist() == docs
    lengths = np.diff(corpus.context_start)
    assert corpus.context_of(range(corpus.n_tokens)).tolist() == np.repeat(np.arange(corpus.n_contexts), lengths).tolist()
    assert corpus.docs["n_tokens"].to_pylist() == [len(corpus.span(doc)) for doc in range(corpus.n_docs)]


def test_roles_of_positions(corpus: Corpus) -> None:
    wanted = ["none"] * corpus.n_tokens
    for turn in corpus.turns.to_pylist():
        for position in range(turn["content_start"], turn["content_end"]):
            wanted[position] = turn["role"]
    found = corpus.role_of(range(corpus.n_tokens))
    assert [found.names[code] for code in found.codes] == wanted
    assert {"text", "user", "assistant", "none"} == set(wanted)


def test_splits_labels_and_titles(corpus: Corpus) -> None:
    assert [SPLITS[code] for code in corpus.split_of(range(corpus.n_docs))] == corpus.docs["split"].to_pylist()
    assert corpus.labels == ("x", "y")
    assert (corpus.title(3), corpus.title(12)) == ("t3", "document 12")


@pytest.mark.parametrize("doc", [-1, 14])
def test_a_document_outside_is_refused(corpus: Corpus, doc: int) -> None:
    with pytest.raises(DocumentNotFound, match="0 … 13"):
        corpus.span(doc)


@pytest.mark.parametrize("template", ["drop", "keep"])
@pytest.mark.parametrize("special", ["drop", "keep"])
def test_keep_is_the_declared_policy(build: Build, jsonl: WriteLines, *, template: str, special: str) -> None:
    path = jsonl([{"messages": [{"role": "user", "content": words(2, 30)}]}])
    corpus = build(path, template=template, special=special, skip_first=2, context_length=16)
    dropped = (corpus.flags & POSITION) != 0
    if template == "drop":
        dropped |= (corpus.flags & TEMPLATE) != 0
    if special == "drop":
        dropped |= (corpus.flags & 1) != 0
    assert np.array_equal(corpus.keep, ~dropped)
    assert 0 < corpus.keep.sum() < corpus.n_tokens


def test_an_opened_corpus_equals_the_built_one(corpus: Corpus) -> None:
    opened = Corpus.open(corpus.path)
    assert (opened.id, opened.config, opened.tokenizer_fingerprint) == (corpus.id, corpus.config, corpus.tokenizer_fingerprint)
    assert opened.docs.equals(corpus.docs)
    assert opened.turns.equals(corpus.turns)
    for name in ("tokens", "flags", "doc_start", "context_start"):
        assert np.array_equal(getattr(opened, name), getattr(corpus, name))
    assert (opened.tokens.dtype, opened.flags.dtype, opened.doc_start.dtype) == (np.int32, np.uint8, np.int64)


@pytest.mark.parametrize("name", ["tokens.safetensors", "docs.parquet", "turns.parquet"])
@pytest.mark.parametrize("damage", ["bit", "cut"])
def test_damage_is_found_and_named(corpus: Corpus, name: str, damage: str) -> None:
    file: Path = corpus.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content if damage == "bit" else content[:-1])
    with pytest.raises(ArtifactDamaged, match=name):
        opened = Corpus.open(corpus.path)
        assert opened.docs
        assert opened.turns
