"""Rows straight from the forward are those that a harvest stores, every one once an epoch, and a restored stream recomputes what it held."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from activations.texts import Build, WriteLines, words

from microtome.activations import SPLITS, Corpus, ForwardConfig, ForwardStream, HarvestConfig, Shards, harvest, held_out
from microtome.errors import ActivationsNotFinite, ConfigError, NotEnoughTokens, ShapeMismatch, SiteNotFound
from microtome.models import Model, Site, tiny

SITES = (Site("mlp_in", 0), Site("mlp_out", 0), Site("mlp_in", 1), Site("mlp_out", 1))
TOKENS = 96
"""Of a forward, in harvest and stream."""
Rows = list[tuple[float, ...]]


@pytest.fixture
def corpus(build: Build, jsonl: WriteLines) -> Corpus:
    """40 documents, all in train, in contexts of 24 tokens."""
    texts = [{"text": f"{i} {words(i, 4 + i * 11 % 37)}", "title": f"text {i}"} for i in range(40)]
    return build(jsonl(texts), context_length=24, split=(1.0, 0.0, 0.0))


@pytest.fixture
def shards(tmp_path: Path, model: Model, corpus: Corpus) -> Shards:
    return harvest(model, corpus, config=HarvestConfig(sites=SITES, batch_tokens=TOKENS, dtype="float32"), out=tmp_path / "shards")


def stream_of(
    model: Model,
    corpus: Corpus,
    *,
    split: str = "train",
    rows: int = 300,
    batch_size: int = 50,
    seed: int = 0,
    limits: dict[Site, float] | None = None,
) -> ForwardStream:
    """With a buffer of `rows` rows."""
    size = rows * 4 * sum(model.width(site) for site in SITES)
    config = ForwardConfig(dtype="float32", batch_tokens=TOKENS, buffer_bytes=size)
    return ForwardStream(model, corpus, sites=SITES, batch_size=batch_size, seed=seed, split=split, config=config, limits=limits)


def served_by(stream: ForwardStream, rows: int) -> Rows:
    """The next rows, all sites of a row beside each other."""
    batches = [next(stream) for _ in range(-(-rows // stream.batch_size))]
    return [tuple(row) for batch in batches for row in torch.cat([batch[site] for site in SITES], dim=1).tolist()][:rows]


def stored(shards: Shards, positions: list[int]) -> Rows:
    x = torch.cat([torch.cat([shards.block(i, site).x for i in range(len(shards.ranges))]) for site in SITES], dim=1)
    return [tuple(row) for row in x[positions].tolist()]


def test_an_epoch_is_what_a_harvest_stores_bit_for_bit(model: Model, corpus: Corpus, shards: Shards) -> None:
    stream = stream_of(model, corpus, batch_size=1)
    kept = np.flatnonzero(shards.keep).tolist()
    assert stream.n_rows == len(kept) > 2 * stream.buffer_rows
    first, second = served_by(stream, len(kept)), served_by(stream, len(kept))
    assert first != second
    assert sorted(first) == sorted(second) == sorted(stored(shards, kept))
    assert (stream.epoch, stream.served) == (2, 2 * len(kept))


@pytest.mark.parametrize("split", SPLITS)
def test_only_the_splits_rows_are_served(tmp_path: Path, model: Model, build: Build, *, jsonl: WriteLines, split: str) -> None:
    """Other contexts share a forward than in the harvest, so the last bits may differ."""
    corpus = build(jsonl([{"text": f"{i} {words(i, 4 + i * 11 % 37)}"} for i in range(60)]), context_length=24, split=(0.5, 0.3, 0.2))
    shards = harvest(model, corpus, config=HarvestConfig(sites=SITES, batch_tokens=TOKENS, dtype="float32"), out=tmp_path / "shards")
    mine = np.flatnonzero(shards.rows_of_split(corpus, split)).tolist()
    stream = stream_of(model, corpus, split=split)
    assert stream.n_rows == len(mine)
    served = torch.tensor(served_by(stream, len(mine)))
    wanted = torch.tensor(stored(shards, mine))
    distance = torch.cdist(served, wanted, compute_mode="donot_use_mm_for_euclid_dist")
    assert float(distance.min(1).values.max()) < 1e-4
    assert float(distance.min(0).values.max()) < 1e-4


def test_rows_are_mixed(model: Model, corpus: Corpus, shards: Shards) -> None:
    """Within a filling, where a row is served says nothing about where it lies in the corpus."""
    kept = np.flatnonzero(shards.keep).tolist()
    place = {row: i for i, row in enumerate(stored(shards, kept))}
    stream = stream_of(model, corpus, rows=10**4, batch_size=10)
    order = np.array([place[row] for row in served_by(stream, len(kept))])
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.1
    assert 0.28 < np.mean(np.abs(np.argsort(order) - np.arange(len(order)))) / len(order) < 0.39


def test_killed_at_random_points_and_restored_it_goes_on_exactly(model: Model, corpus: Corpus) -> None:
    """Another model object, another stream, only the JSON state in between, five times over; the whole run is the oracle."""
    chance, whole = random.Random(3), stream_of(model, corpus)
    wanted = [next(whole) for _ in range(60)]
    at, state = 0, stream_of(model, corpus).state()
    while at < len(wanted):
        stream = stream_of(tiny("llama"), corpus)
        stream.restore(json.loads(json.dumps(state)))
        for _ in range(chance.randint(1, 20)):
            if at < len(wanted):
                batch = next(stream)
                assert all(torch.equal(batch[site], wanted[at][site]) for site in SITES)
                at += 1
        state = stream.state()
        for _ in range(chance.randint(0, 3)):
            next(stream)  # computed, but lost by the kill


def test_two_cores_compute_the_same_rows(model: Model, corpus: Corpus) -> None:
    one = next(stream_of(model, corpus))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = next(stream_of(model, corpus))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one[site], two[site]) for site in SITES)


def test_held_out_rows_are_those_of_shards(model: Model, corpus: Corpus, shards: Shards) -> None:
    fixed = stream_of(model, corpus, seed=5).fixed(100, split="train")
    for site in SITES:
        wanted = held_out(shards, corpus, site=site, n=100, split="train", seed=5)
        assert torch.equal(fixed[site].positions, wanted.positions)
        assert torch.equal(fixed[site].docs, wanted.docs)
        torch.testing.assert_close(fixed[site].x, wanted.x, atol=1e-5, rtol=1e-5)


def test_sinks_are_left_out(model: Model, corpus: Corpus, *, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = Model.capture
    sink = int(corpus.tokens[int(corpus.context_start[3]) + 5])

    def with_sinks(self: Model, tokens: torch.Tensor, sites: object, **rest: object) -> dict[Site, torch.Tensor]:
        values = capture(self, tokens, SITES, **rest)  # type: ignore[arg-type]  # the real one's own arguments
        return {site: torch.where((tokens == sink)[..., None], 1000 * x, x) for site, x in values.items()}

    monkeypatch.setattr(Model, "capture", with_sinks)
    stream = stream_of(model, corpus, batch_size=1)
    wanted = int((corpus.keep & (corpus.tokens != sink)).sum())
    assert wanted < stream.n_rows
    served = served_by(stream, wanted)
    assert (stream.epoch, stream.served) == (1, wanted)
    assert max(max(map(abs, row)) for row in served) < 100
    assert not np.isin(corpus.tokens[stream.fixed(200, split="train")[SITES[0]].positions.numpy()], [sink]).any()

    shared: dict[Site, float] = {}
    first = stream_of(model, corpus, batch_size=1, limits=shared)
    assert served_by(first, wanted) == served
    assert set(shared) == set(SITES)
    known = stream_of(model, corpus, batch_size=1, limits=dict.fromkeys(SITES, 1e9))
    assert max(max(map(abs, row)) for row in served_by(known, known.n_rows)) > 100


def test_rows_have_the_asked_type_and_batches_are_not_overwritten(model: Model, corpus: Corpus) -> None:
    config = ForwardConfig(batch_tokens=TOKENS, buffer_bytes=60_000)
    stream = ForwardStream(model, corpus, sites=SITES, batch_size=40, seed=0, config=config)
    batch = next(stream)
    copy = {site: x.clone() for site, x in batch.items()}
    for _ in range(stream.n_rows // 40 + 1):
        next(stream)
    for site in SITES:
        assert batch[site].dtype == torch.bfloat16
        assert batch[site].shape == (40, model.width(site))
        assert torch.equal(batch[site], copy[site])


def test_a_broken_activation_is_named(corpus: Corpus) -> None:
    broken = tiny("llama")
    position = corpus.span(17).end - 1
    embedding = broken.hf.get_input_embeddings().weight
    assert isinstance(embedding, torch.Tensor)
    with torch.no_grad():
        embedding[int(corpus.tokens[position])] = float("nan")
    with pytest.raises(ActivationsNotFinite, match="mlp_in of document"):
        next(stream_of(broken, corpus))


def test_what_does_not_fit_is_refused(model: Model, corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="buffer is too small"):
        stream_of(model, corpus, rows=20)
    with pytest.raises(ConfigError, match="at least one row"):
        stream_of(model, corpus, batch_size=0)
    with pytest.raises(NotEnoughTokens):
        stream_of(model, corpus, split="dev")
    with pytest.raises(SiteNotFound):
        ForwardStream(model, corpus, sites=(Site("mlp_in", 9),), batch_size=4, seed=0)
    with pytest.raises(ShapeMismatch, match="another stream"):
        stream_of(model, corpus, seed=1).restore(stream_of(model, corpus, seed=2).state())
