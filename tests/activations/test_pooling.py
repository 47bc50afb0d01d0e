"""A pooled row is the mean of exactly the tokens that count; brute force over the turn table is the oracle."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from activations.texts import Build, WriteLines, words

from microtome.activations import (
    POSITION,
    SPECIAL,
    SPLITS,
    TEMPLATE,
    ActivationStream,
    Corpus,
    HarvestConfig,
    Pooled,
    PoolingConfig,
    Shards,
    TurnPairStream,
    harvest,
    held_out,
    pool,
    sentence_spans,
    window_spans,
)
from microtome.errors import ConfigError, NotEnoughTokens, ShapeMismatch, SiteNotFound
from microtome.models import Model, Site

SITES = (Site("resid_post", 1), Site("mlp_out", 0))
SITE = SITES[0]


def tokens_of(shards: Shards, site: Site) -> torch.Tensor:
    return torch.cat([shards.block(i, site).x for i in range(len(shards.ranges))])


def rows_of(pooled: Pooled, site: Site) -> torch.Tensor:
    return torch.cat([pooled.block(i, site).x for i in range(len(pooled.ranges))])


def brute(shards: Shards, corpus: Corpus, spans: list[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """The tokens of each span that count, where there are any, one by one."""
    counts = [bool(keep) and not flags & (SPECIAL | TEMPLATE) for keep, flags in zip(shards.keep, corpus.flags, strict=True)]
    found = {span: [i for i in range(*span) if counts[i]] for span in spans}
    return {span: tokens for span, tokens in found.items() if tokens}


def turns(corpus: Corpus, *roles: str) -> list[tuple[int, int]]:
    return [(t["content_start"], t["content_end"]) for t in corpus.turns.to_pylist() if not roles or t["role"] in roles]


@pytest.mark.parametrize("roles", [(), ("assistant",), ("user", "tool")])
def test_a_row_is_the_mean_of_its_turns_tokens(tmp_path: Path, shards: Shards, chats: Corpus, *, roles: tuple[str, ...]) -> None:
    pooled = pool(shards, chats, config=PoolingConfig(roles=roles), out=tmp_path / "pooled")
    wanted = brute(shards, chats, turns(chats, *roles))
    assert pooled.n_rows == len(wanted) == (80 if roles else 160)
    for site in SITES:
        x = tokens_of(shards, site).double()
        means = torch.stack([x[tokens].mean(0) for tokens in wanted.values()])
        torch.testing.assert_close(rows_of(pooled, site).double(), means, atol=1e-6, rtol=1e-6)
    assert [(row["start"], row["end"]) for row in pooled.table.to_pylist()] == list(wanted)
    assert pooled.table["tokens"].to_pylist() == [len(tokens) for tokens in wanted.values()]


def test_rows_know_where_they_come_from(tmp_path: Path, shards: Shards, chats: Corpus) -> None:
    table = pool(shards, chats, config=PoolingConfig(), out=tmp_path / "pooled").table
    known = {(t["content_start"], t["content_end"]): (t["doc"], t["turn"], t["role"]) for t in chats.turns.to_pylist()}
    assert all(known[row["start"], row["end"]] == (row["doc"], row["turn"], row["role"]) for row in table.to_pylist())
    assert Counter(table["role"].to_pylist()) == {"user": 80, "assistant": 80}


@pytest.mark.parametrize("policy", ["drop", "keep"])
def test_template_and_special_tokens_never_count_and_the_summary_says_so(
    tmp_path: Path, model: Model, build: Build, *, jsonl: WriteLines, policy: str
) -> None:
    """Whether the corpus keeps them for training by token or not. Oracle: every token of the turns, counted under the first reason that holds."""
    chat = [{"role": "user", "content": words(1, 6)}, {"role": "assistant", "content": ""}, {"role": "user", "content": words(2, 30)}]
    corpus = build(jsonl([{"messages": chat}] * 3), template=policy, special=policy, context_length=16)
    shards = harvest(model, corpus, config=HarvestConfig(sites=SITES), out=tmp_path / "shards")
    summary = pool(shards, corpus, config=PoolingConfig(), out=tmp_path / "pooled").summary
    reasons = Counter[str]()
    for turn in corpus.turns.to_pylist():
        for i in range(turn["start"], turn["end"]):
            flags = corpus.flags[i]
            hit = [name for name, bit in (("special", SPECIAL), ("template", TEMPLATE), ("position", POSITION)) if flags & bit]
            reasons[hit[0] if hit else "tokens" if shards.keep[i] else "sink"] += 1
    assert {"tokens": summary["tokens"], **summary["excluded"]} == {name: reasons[name] for name in ("tokens", *summary["excluded"])}
    assert min(reasons[name] for name in ("tokens", "template", "position")) > 0
    assert (summary["turns"], summary["empty"], summary["rows"], summary["roles"]) == (9, 3, 6, {"user": 6})


def test_the_last_token_of_a_turn(tmp_path: Path, shards: Shards, chats: Corpus) -> None:
    pooled = pool(shards, chats, config=PoolingConfig(over="last"), out=tmp_path / "pooled")
    last = [tokens[-1] for tokens in brute(shards, chats, turns(chats)).values()]
    assert torch.equal(rows_of(pooled, SITE), tokens_of(shards, SITE)[last])


def test_windows_tile_every_turn(tmp_path: Path, shards: Shards, chats: Corpus) -> None:
    spans = window_spans(chats, tokens=7)
    tiles = [(low, min(low + 7, end)) for start, end in turns(chats) for low in range(start, end, 7)]
    assert spans.tolist() == [list(tile) for tile in tiles]
    pooled = pool(shards, chats, config=PoolingConfig(over="span", sites=(SITE,)), out=tmp_path / "pooled", spans=spans)
    x = tokens_of(shards, SITE).double()
    means = torch.stack([x[tokens].mean(0) for tokens in brute(shards, chats, tiles).values()])
    torch.testing.assert_close(rows_of(pooled, SITE).double(), means, atol=1e-6, rtol=1e-6)
    with pytest.raises(SiteNotFound):
        pooled.site(SITES[1])


def test_sentences_end_where_the_rule_says(build: Build, jsonl: WriteLines, model: Model) -> None:
    text = "Seven stones. Is it 3.5 of them?\nYes (it is!) and no\nmore"
    corpus = build(jsonl([{"text": text}]))
    spans = sentence_spans(corpus, model.tokenizer)
    pieces = [model.tokenizer.text(corpus.tokens[start:end].tolist()) for start, end in spans]
    assert "".join(pieces) == text
    assert [piece.strip() for piece in pieces] == ["Seven stones.", "Is it 3.5 of them?", "Yes (it is!)", "and no", "more"]


def test_a_span_outside_turns_has_no_role(tmp_path: Path, shards: Shards, chats: Corpus) -> None:
    content = {i for turn in turns(chats) for i in range(*turn)}
    span = chats.span(1)
    first = span.start
    assert first not in content
    pooled = pool(shards, chats, config=PoolingConfig(over="span"), out=tmp_path / "p", spans=np.array([[first, span.end]]))
    assert pooled.table.to_pylist()[0] | {"tokens": 0} == {"doc": 1, "turn": -1, "role": "none", "start": first, "end": span.end, "tokens": 0}


@pytest.mark.parametrize("spans", [[[5, 5]], [[9, 12], [3, 6]], [[0, 4], [3, 6]], [[0, 10**6]], [[-1, 3]], []])
def test_unfit_spans_are_refused(tmp_path: Path, shards: Shards, chats: Corpus, *, spans: list[Any]) -> None:
    with pytest.raises(ConfigError, match="spans"):
        pool(shards, chats, config=PoolingConfig(over="span"), out=tmp_path / "p", spans=np.array(spans, dtype=np.int64).reshape(-1, 2))


def test_what_cannot_be_pooled_is_refused(tmp_path: Path, shards: Shards, chats: Corpus) -> None:
    with pytest.raises(ConfigError, match="needs spans"):
        pool(shards, chats, config=PoolingConfig(over="span"), out=tmp_path / "p")
    with pytest.raises(NotEnoughTokens):
        pool(shards, chats, config=PoolingConfig(roles=("tool",)), out=tmp_path / "p")
    with pytest.raises(ConfigError, match="role"):
        PoolingConfig(roles=("asistant",))


def test_an_interrupted_pooling_goes_on(tmp_path: Path, shards: Shards, chats: Corpus) -> None:
    whole = pool(shards, chats, config=PoolingConfig(), out=tmp_path / "whole")

    def stop(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool(shards, chats, config=PoolingConfig(), out=tmp_path / "cut", progress=stop)
    first = tmp_path / "cut" / "rows-00000.safetensors"
    before = first.stat().st_mtime_ns
    assert pool(shards, chats, config=PoolingConfig(), out=tmp_path / "cut").id == whole.id
    assert first.stat().st_mtime_ns == before
    assert Pooled.open(tmp_path / "cut").table.equals(pq.read_table(tmp_path / "whole" / "rows.parquet"))


@pytest.mark.parametrize("split", SPLITS)
def test_a_stream_serves_every_turn_of_its_split_once_an_epoch(tmp_path: Path, shards: Shards, chats: Corpus, *, split: str) -> None:
    pooled = pool(shards, chats, config=PoolingConfig(), out=tmp_path / "pooled")
    stream = ActivationStream(pooled, chats, sites=SITES, batch_size=10, seed=0, split=split)
    mine = [i for i, doc in enumerate(pooled.table["doc"].to_pylist()) if chats.splits[doc] == SPLITS.index(split)]
    assert stream.n_rows == len(mine)
    batches = [next(stream) for _ in range(2 * len(mine) // 10 + 1)]
    for site in SITES:
        served = torch.cat([batch[site] for batch in batches])[: 2 * len(mine)]
        assert not torch.equal(served[: len(mine)], served[len(mine) :])
        for epoch in served.split(len(mine)):
            assert sorted(epoch.tolist()) == sorted(rows_of(pooled, site)[mine].tolist())
    resumed = ActivationStream(pooled, chats, sites=SITES, batch_size=10, seed=0, split=split)
    resumed.restore(json.loads(json.dumps(stream.state())))
    assert torch.equal(next(resumed)[SITE], next(stream)[SITE])


def test_held_out_turns(tmp_path: Path, shards: Shards, chats: Corpus) -> None:
    pooled = pool(shards, chats, config=PoolingConfig(), out=tmp_path / "pooled")
    held = held_out(pooled, chats, site=SITE, n=6, split="train")
    assert torch.equal(held.x, rows_of(pooled, SITE)[held.positions])
    assert held.docs.tolist() == [pooled.table["doc"][row].as_py() for row in held.positions.tolist()]


@pytest.mark.parametrize("roles", [(), ("assistant",)])
def test_pairs_are_tokens_beside_their_turns_mean(tmp_path: Path, shards: Shards, chats: Corpus, *, roles: tuple[str, ...]) -> None:
    """Oracle: the turn table, token by token; every token of a mean once an epoch."""
    pooled = pool(shards, chats, config=PoolingConfig(roles=roles), out=tmp_path / "pooled")
    stream = TurnPairStream(shards, chats, turns=pooled, site=SITE, batch_size=64, seed=0, buffer_rows=512)
    x, m = tokens_of(shards, SITE), rows_of(pooled, SITE)
    pairs: list[tuple[float, ...]] = []
    for row, tokens in enumerate(brute(shards, chats, turns(chats, *roles)).values()):
        if chats.splits[chats.doc_of(tokens)[0]] == SPLITS.index("train"):
            pairs += [(*x[token].tolist(), *m[row].tolist()) for token in tokens]
    served = [tuple(row) for _ in range(2 * len(pairs) // 64 + 1) for row in torch.cat(next(stream), dim=1).tolist()]
    assert stream.n_rows == len(pairs)
    assert sorted(served[: len(pairs)]) == sorted(served[len(pairs) : 2 * len(pairs)]) == sorted(pairs)


@pytest.mark.parametrize("batches", [0, 2, 11])
def test_pairs_are_restored_exactly(tmp_path: Path, shards: Shards, chats: Corpus, *, batches: int) -> None:
    pooled = pool(shards, chats, config=PoolingConfig(), out=tmp_path / "pooled")
    whole, resumed = (TurnPairStream(shards, chats, turns=pooled, site=SITE, batch_size=64, seed=3, buffer_rows=512) for _ in range(2))
    for _ in range(batches):
        next(whole)
    resumed.restore(json.loads(json.dumps(whole.state())))
    for _ in range(20):
        assert all(torch.equal(one, other) for one, other in zip(next(whole), next(resumed), strict=True))
    assert (resumed.epoch, resumed.served) == (whole.epoch, whole.served)


def test_held_out_pairs_and_what_is_no_pair(tmp_path: Path, shards: Shards, chats: Corpus) -> None:
    pooled = pool(shards, chats, config=PoolingConfig(roles=("user",)), out=tmp_path / "pooled")
    held = TurnPairStream(shards, chats, turns=pooled, site=SITE, batch_size=64, seed=0).fixed(40, split="train")
    table, x = pooled.table.to_pylist(), tokens_of(shards, SITE)
    for position, row, mean in zip(held.rows.positions.tolist(), held.rows.x, held.means, strict=True):
        assert torch.equal(row, x[position])
        turn = next(i for i, each in enumerate(table) if each["start"] <= position < each["end"])
        assert torch.equal(mean, rows_of(pooled, SITE)[turn])
    last = pool(shards, chats, config=PoolingConfig(over="last"), out=tmp_path / "last")
    with pytest.raises(ShapeMismatch, match="not the means"):
        TurnPairStream(shards, chats, turns=last, site=SITE, batch_size=64, seed=0)
