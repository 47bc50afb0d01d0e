"""The stream serves each kept row once an epoch, in an order that is random, repeatable and resumable."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from microtome.activations import ActivationStream, Corpus, FromMatrix, RoleRows, Shards, held_out, shards_from_matrix
from microtome.activations.corpus import SPLITS
from microtome.errors import ConfigError, NotEnoughTokens, ShapeMismatch
from microtome.models import Site

N = 20_000


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> FromMatrix:
    """Row i holds the number i (as two digits that bfloat16 keeps exactly), in 7 shards of 25 documents each."""
    rows = torch.arange(N)
    x = torch.stack([rows // 200, rows % 200, torch.ones(N)], dim=1).float()
    return shards_from_matrix(x, tmp_path_factory.mktemp("numbered"), doc_tokens=120, shard_tokens=3000, skip_first=2)


def numbers(batch: torch.Tensor) -> list[int]:
    return (batch[:, 0].float() * 200 + batch[:, 1].float()).long().tolist()


def stream_of(numbered: FromMatrix, *, seed: int = 0, batch_size: int = 100, split: str = "train") -> ActivationStream[torch.Tensor]:
    site = numbered.shards.sites[0]
    return ActivationStream(numbered.shards, numbered.corpus, site=site, batch_size=batch_size, seed=seed, split=split, buffer_rows=2048)


def kept(numbered: FromMatrix, split: str) -> list[int]:
    """By brute force: positions that are kept and whose document is in the split."""
    corpus, code = numbered.corpus, SPLITS.index(split)
    return [i for i in range(N) if i % 120 >= 2 and corpus.splits[i // 120] == code]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("batch_size", [100, 997])
def test_every_kept_row_is_served_exactly_once_an_epoch(numbered: FromMatrix, split: str, batch_size: int) -> None:
    stream = stream_of(numbered, batch_size=batch_size, split=split)
    rows = stream.n_rows
    assert rows == len(kept(numbered, split))
    served = [number for _ in range(2 * rows // batch_size + 1) for number in numbers(next(stream))]
    first, second = served[:rows], served[rows : 2 * rows]
    assert sorted(first) == sorted(second) == kept(numbered, split)
    assert first != second
    assert stream.epoch == len(served) // rows


def test_the_shuffle_is_a_real_one(numbered: FromMatrix) -> None:
    """A batch reaches over the whole corpus, and where a row is served says nothing about where it lay."""
    stream = stream_of(numbered)
    served = np.array([number for _ in range(stream.n_rows // 100) for number in numbers(next(stream))])
    assert abs(np.corrcoef(np.arange(len(served)), served)[0, 1]) < 0.05
    assert np.mean(np.abs(np.diff(served)) == 1) < 0.005
    shards_in_batch = [len(np.unique(batch // 3000)) for batch in served[: len(served) // 100 * 100].reshape(-1, 100)]
    assert np.mean(shards_in_batch) > 6
    displacement = np.abs(np.argsort(served) - np.arange(len(served))) / len(served)
    assert 0.28 < displacement.mean() < 0.39  # a uniform shuffle's mean displacement is 1/3 of the length


def test_the_order_depends_on_the_seed_alone(numbered: FromMatrix) -> None:
    first, again, other = (stream_of(numbered, seed=seed) for seed in (3, 3, 4))
    one = numbers(next(first))
    assert one == numbers(next(again))
    assert one != numbers(next(other))


@pytest.mark.parametrize("batches", [0, 1, 37, 160, 333])
def test_a_restored_stream_goes_on_exactly(numbered: FromMatrix, batches: int) -> None:
    whole, resumed = stream_of(numbered), stream_of(numbered)
    for _ in range(batches):
        next(whole)
    resumed.restore(json.loads(json.dumps(whole.state())))
    for _ in range(30):
        assert torch.equal(next(whole), next(resumed))


def test_a_batch_is_not_overwritten_by_the_next(numbered: FromMatrix) -> None:
    stream = stream_of(numbered)
    first = next(stream)
    copy = first.clone()
    for _ in range(30):
        next(stream)
    assert torch.equal(first, copy)


def test_state_of_another_stream_is_refused(numbered: FromMatrix) -> None:
    stream = stream_of(numbered)
    with pytest.raises(ShapeMismatch, match="another stream") as error:
        stream.restore({**stream.state(), "seed": 99})
    assert "seed 99" in str(error.value)


def test_rows_keep_the_storage_type(numbered: FromMatrix) -> None:
    assert next(stream_of(numbered)).dtype == torch.bfloat16


def test_held_out_rows_are_fixed_whole_documents_with_their_positions(numbered: FromMatrix) -> None:
    site = numbered.shards.sites[0]
    found = held_out(numbered.shards, numbered.corpus, site=site, n=500, split="dev")
    assert found.x.shape == (500, 3)
    assert numbers(found.x) == found.positions.tolist() == sorted(found.positions.tolist())
    assert set(found.positions.tolist()) <= set(kept(numbered, "dev"))
    assert torch.equal(found.docs, found.positions // 120)
    counts = torch.bincount(found.docs)
    assert sorted(counts[counts > 0].tolist())[1:] == [118] * 4  # only the last document is cut
    again = stream_of(numbered).fixed(500)
    assert torch.equal(again.x, found.x)


def test_held_out_gives_what_there_is(numbered: FromMatrix) -> None:
    found = held_out(numbered.shards, numbered.corpus, site=numbered.shards.sites[0], n=10**6, split="test")
    assert found.positions.tolist() == kept(numbered, "test")


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    made = shards_from_matrix(torch.randn(16, 4), tmp_path, doc_tokens=16)
    empty = next(split for split in SPLITS if made.corpus.docs["split"][0].as_py() != split)
    with pytest.raises(NotEnoughTokens):
        ActivationStream(made.shards, made.corpus, site=made.shards.sites[0], batch_size=4, seed=0, split=empty)
    with pytest.raises(NotEnoughTokens):
        held_out(made.shards, made.corpus, site=made.shards.sites[0], n=4, split=empty)


def test_shards_of_another_corpus_are_refused(numbered: FromMatrix, tmp_path: Path) -> None:
    other = shards_from_matrix(torch.randn(64, 4), tmp_path)
    with pytest.raises(ShapeMismatch, match="another corpus"):
        ActivationStream(other.shards, numbered.corpus, site=Site("resid_post", 0), batch_size=4, seed=0)


def test_sizes_and_split_are_checked(numbered: FromMatrix) -> None:
    site = numbered.shards.sites[0]
    with pytest.raises(ConfigError):
        ActivationStream(numbered.shards, numbered.corpus, site=site, batch_size=0, seed=0)
    with pytest.raises(ConfigError):
        ActivationStream(numbered.shards, numbered.corpus, site=site, batch_size=4, seed=0, buffer_rows=10)
    with pytest.raises(ConfigError, match="no split") as error:
        ActivationStream(numbered.shards, numbered.corpus, site=site, batch_size=4, seed=0, split="trian")
    assert '"train"' in str(error.value)
    with pytest.raises(ConfigError, match="one site or several"):
        ActivationStream(numbered.shards, numbered.corpus, sites=(site, site), batch_size=4, seed=0)


SITES = (Site("resid_post", 1), Site("mlp_out", 0), Site("embed"))


def rows_of(shards: Shards, site: Site) -> torch.Tensor:
    return torch.cat([shards.block(i, site).x for i in range(len(shards.ranges))])


def test_several_sites_serve_the_same_rows(shards: Shards, chats: Corpus) -> None:
    """Oracle: a stream of each site alone; and a row's token, found by its value at one site, is that of the other sites too."""
    several = ActivationStream(shards, chats, sites=SITES, batch_size=50, seed=1, buffer_rows=512)
    alone = [ActivationStream(shards, chats, site=site, batch_size=50, seed=1, buffer_rows=512) for site in SITES]
    for batch in (next(several) for _ in range(2 * several.n_rows // 50 + 1)):
        assert list(batch) == list(SITES)
        assert all(torch.equal(batch[site], next(stream)) for site, stream in zip(SITES, alone, strict=True))
    batch = next(several)
    token = (batch[SITES[0]][:, None] == rows_of(shards, SITES[0])).all(-1).int().argmax(1)
    assert all(torch.equal(batch[site], rows_of(shards, site)[token]) for site in SITES)


@pytest.mark.parametrize("batches", [0, 3, 9, 40])
def test_several_sites_are_restored_exactly(shards: Shards, chats: Corpus, *, batches: int) -> None:
    whole, resumed = (ActivationStream(shards, chats, sites=SITES, batch_size=50, seed=1, buffer_rows=512) for _ in range(2))
    for _ in range(batches):
        next(whole)
    resumed.restore(json.loads(json.dumps(whole.state())))
    for _ in range(30):
        one, other = next(whole), next(resumed)
        assert all(torch.equal(one[site], other[site]) for site in SITES)
    assert (whole.served, whole.epoch, whole.state()) == (resumed.served, resumed.epoch, resumed.state())
    with pytest.raises(ShapeMismatch, match="another stream"):
        resumed.restore(ActivationStream(shards, chats, sites=SITES[:2], batch_size=50, seed=1, buffer_rows=512).state())
    with pytest.raises(ShapeMismatch, match="another stream"):
        resumed.restore({**whole.state(), "begin": -1})


def test_held_out_rows_of_several_sites_are_the_same_tokens(shards: Shards, chats: Corpus) -> None:
    fixed = ActivationStream(shards, chats, sites=SITES, batch_size=50, seed=1, buffer_rows=512).fixed(100, split="train")
    for site in SITES:
        alone = held_out(shards, chats, site=site, n=100, split="train", seed=1)
        assert torch.equal(fixed[site].x, alone.x)
        assert torch.equal(fixed[site].x, rows_of(shards, site)[alone.positions])
        assert torch.equal(fixed[site].docs, alone.docs)


def test_rows_of_a_role(shards: Shards, chats: Corpus) -> None:
    """Oracle: the turn table, token by token."""
    mine = [range(t["content_start"], t["content_end"]) for t in chats.turns.to_pylist() if t["role"] == "assistant"]
    wanted = sorted({position for turn in mine for position in turn if shards.keep[position]})
    rows = RoleRows(shards, roles=("assistant",))
    masks = [rows.rows_of_split(chats, split) for split in SPLITS]
    assert np.flatnonzero(np.any(masks, axis=0)).tolist() == wanted
    stream = ActivationStream(rows, chats, site=SITES[0], batch_size=50, seed=0, buffer_rows=512)
    assert stream.n_rows == int(masks[0].sum())
    served = torch.cat([next(stream) for _ in range(stream.n_rows // 50 + 1)])[: stream.n_rows]
    assert sorted(served.tolist()) == sorted(rows_of(shards, SITES[0])[torch.from_numpy(masks[0])].tolist())
    with pytest.raises(ConfigError, match="assistant"):
        RoleRows(shards, roles=("asistant",))
