"""Documents become tokens, contexts, turns and splits by declared rules, the same on every machine."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from activations.texts import Build, WriteLines, text_of, words

from microtome.activations import POSITION, SPECIAL, TEMPLATE, CorpusConfig, build_corpus
from microtome.activations.build import parts_of
from microtome.config import from_dict
from microtome.errors import ArtifactConflict, ConfigError, CorpusInvalid, NotEnoughTokens
from microtome.models import Model

CHAT = [
    {"role": "user", "content": "What is the river under the stone?"},
    {"role": "assistant", "content": "It is quiet; 日本 🙂."},
    {"role": "user", "content": "And <|im_end|> is no token here."},
]


def test_pieces_of_tokens_rejoin_to_the_text(build: Build, jsonl: WriteLines, model: Model) -> None:
    texts = [*(words(i, 3 + 5 * i) for i in range(9)), "a\u2028b <script>alert(1)</script>", "e\u0301 \x85 \r\n tabs\t\t and <|im_start|> as text"]
    corpus = build(jsonl([{"text": text} for text in texts]), context_length=16)
    for doc, text in enumerate(texts):
        span = corpus.span(doc)
        assert "".join(model.tokenizer.decode_pieces(corpus.tokens[span.start : span.end].tolist())) == text


@pytest.mark.parametrize("bos", ["none", "document", "context"])
@pytest.mark.parametrize("skip_first", [0, 1, 3])
def test_contexts_tile_documents(build: Build, jsonl: WriteLines, *, model: Model, bos: str, skip_first: int) -> None:
    corpus = build(jsonl([{"text": words(i, 2 + 7 * i)} for i in range(9)]), context_length=20, bos=bos, skip_first=skip_first)
    starts, bos_id = corpus.context_start.tolist(), model.tokenizer.bos
    assert set(corpus.doc_start.tolist()) <= set(starts)
    assert (starts[0], starts[-1]) == (0, corpus.n_tokens)
    documents = set(corpus.doc_start.tolist())
    for start, end in pairwise(starts):
        assert 0 < end - start <= 20
        assert end - start == 20 or end in documents
        headed = bos == "context" or (bos == "document" and start in documents)
        assert [place for place in range(start, end) if corpus.tokens[place] == bos_id] == ([start] if headed else [])
        assert ((corpus.flags[start:end] & POSITION) != 0).tolist() == [i < skip_first for i in range(end - start)]
        assert ((corpus.flags[start:end] & SPECIAL) != 0).tolist() == [headed and i == 0 for i in range(end - start)]
    for doc in range(corpus.n_docs):
        span = corpus.span(doc)
        body = [token for token in corpus.tokens[span.start : span.end].tolist() if token != bos_id]
        assert model.tokenizer.text(body) == words(doc, 2 + 7 * doc)


@pytest.mark.parametrize("bos", ["none", "document", "context"])
def test_roles_and_spans_of_a_chat_are_exact(build: Build, jsonl: WriteLines, *, model: Model, bos: str) -> None:
    corpus = build(jsonl([{"messages": CHAT}, {"text": words(1, 9)}, {"messages": CHAT[:2]}]), text_key=None, bos=bos, context_length=16)
    bos_id = model.tokenizer.bos
    said = [[turn["content"] for turn in CHAT], [words(1, 9)], [turn["content"] for turn in CHAT[:2]]]
    roles = [["user", "assistant", "user"], ["text"], ["user", "assistant"]]
    turns = corpus.turns.to_pylist()
    assert [(turn["doc"], turn["role"]) for turn in turns] == [(doc, role) for doc, names in enumerate(roles) for role in names]
    inside = np.zeros(corpus.n_tokens, dtype=bool)
    for turn, text in zip(turns, [text for texts in said for text in texts], strict=True):
        content = range(turn["content_start"], turn["content_end"])
        assert model.tokenizer.text([t for t in corpus.tokens[content.start : content.stop].tolist() if t != bos_id]) == text
        assert turn["start"] <= content.start < content.stop <= turn["end"]
        found = corpus.role_of(list(content))
        assert {found.names[code] for code in found.codes} == {turn["role"]}
        inside[content.start : content.stop] = True
    template = (corpus.flags & TEMPLATE) != 0
    assert np.array_equal(template | (corpus.tokens == bos_id), ~inside | (corpus.tokens == bos_id))
    outside = corpus.role_of(np.flatnonzero(~inside))
    assert {outside.names[code] for code in outside.codes} <= {"none"}


def test_picking_keeps_the_mixture_and_depends_on_text_and_seed_alone(build: Build, jsonl: WriteLines) -> None:
    records = [{"text": f"{words(i, 12)} {i}", "topic": "abbb"[i % 4]} for i in range(400)]
    picked = build(jsonl(records), max_documents=130, label_key="topic")
    assert picked.n_docs == 130
    share = Counter(picked.docs["label"].to_pylist())["a"] / 130
    assert abs(share - 0.25) < 0.1
    chosen = set(picked.docs["sha"].to_pylist())
    again = build(jsonl(records[::-1]), max_documents=130, label_key="topic")
    assert set(again.docs["sha"].to_pylist()) == chosen
    assert set(build(jsonl(records), max_documents=130, label_key="topic", seed=1).docs["sha"].to_pylist()) != chosen
    fewer = build(jsonl(records), max_tokens=picked.n_tokens // 3, label_key="topic")
    assert 0.9 * picked.n_tokens // 3 < fewer.n_tokens <= picked.n_tokens // 3
    assert set(fewer.docs["sha"].to_pylist()) < chosen


def test_the_pick_of_this_release_stays(build: Build, jsonl: WriteLines) -> None:
    """Written down, so that no machine or release picks others unnoticed."""
    corpus = build(jsonl([{"text": f"{words(i, 5)} {i}"} for i in range(40)]), max_documents=6)
    assert [(doc["sha"][:6], doc["split"]) for doc in corpus.docs.to_pylist()] == PICK


PICK = [("da8469", "train"), ("e24c7a", "train"), ("edd7ea", "test"), ("7a690e", "train"), ("841afc", "train"), ("24311c", "train")]


def test_equal_texts_share_a_split_and_shares_are_met(build: Build, jsonl: WriteLines) -> None:
    corpus = build(jsonl([{"text": f"number {i % 300} {words(i % 300, 5)}"} for i in range(600)]), split=(0.5, 0.3, 0.2))
    splits = corpus.docs["split"].to_pylist()
    assert splits[:300] == splits[300:]
    found = Counter(splits[:300])
    assert [abs(found[name] / 300 - share) < 0.09 for name, share in (("train", 0.5), ("dev", 0.3), ("test", 0.2))] == [True] * 3


def test_the_same_config_gives_the_same_artifact(build: Build, jsonl: WriteLines) -> None:
    path = jsonl([{"text": words(i, 9)} for i in range(20)])
    assert build(path).id == build(path).id
    assert build(path, seed=1).id != build(path).id


def test_what_cannot_be_read_stops_or_is_counted(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    lines = [b'{"text": "a good record of words"}', b'{"text": ""}', b'{"text": "caf\xe9"}', b"{", b'{"messages": [{"content": "?"}]}', b"[]"]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(CorpusInvalid, match="line 3 is not UTF-8"):
        build(path)
    corpus = build(path, invalid="skip")
    assert corpus.n_docs == 1
    assert corpus.summary["skipped"] == {"bad messages": 1, "broken JSON": 1, "broken UTF-8": 1, "near-empty": 1, "no text": 1}


def test_an_empty_corpus_says_why(build: Build, jsonl: WriteLines) -> None:
    with pytest.raises(NotEnoughTokens, match="2 × near-empty"):
        build(jsonl([{"text": ""}, {"text": "  "}]))
    with pytest.raises(NotEnoughTokens, match="no documents at all"):
        build(jsonl([]))


def test_a_single_line_of_five_megabytes(build: Build, jsonl: WriteLines, model: Model) -> None:
    text = (words(3, 400) + ". ") * 2800
    assert len(text.encode()) > 5_000_000
    corpus = build(jsonl([{"text": text, "title": "long"}]), max_tokens=60_000)
    assert 40_000 < corpus.n_tokens <= 60_000
    assert all(part in text for part in (text_of(corpus, model, doc) for doc in range(corpus.n_docs)))
    assert "(part " in corpus.title(0)


@pytest.mark.parametrize("unit", ["word ", "line of text\n", "A sentence. ", "nobreak", "日本"])
def test_parts_rejoin(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    parts = parts_of(text)
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 20_000
    assert min(map(len, parts[:-1])) >= 10_000


def test_other_work_in_the_folder_is_not_overwritten(jsonl: WriteLines, tmp_path: Path, *, model: Model) -> None:
    path = jsonl([{"text": words(1, 9)}])
    build_corpus(model, CorpusConfig(source=str(path), context_length=64), out=tmp_path / "out")
    with pytest.raises(ArtifactConflict):
        build_corpus(model, CorpusConfig(source=str(path), context_length=64, seed=1), out=tmp_path / "out")


def test_a_misspelt_or_unfit_field_is_refused(build: Build, jsonl: WriteLines, model: Model) -> None:
    with pytest.raises(ConfigError, match="context_length"):
        from_dict(CorpusConfig, json.loads('{"source": "wiki", "contextlength": 128}'))
    unfit: list[dict[str, Any]] = [
        {"context_length": 1},
        {"split": (0.5, 0.1, 0.1)},
        {"skip_first": 256},
        {"max_tokens": 3},
        {"sink_norm_ratio": 0.5},
    ]
    for fields in unfit:
        with pytest.raises(ConfigError, match=next(iter(fields))):
            CorpusConfig(source="wiki", **fields)
    with pytest.raises(ConfigError, match="longer than the model"):
        build(jsonl([{"text": words(1, 9)}]), context_length=model.max_context + 1)
