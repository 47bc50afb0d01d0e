"""Shards read back what was stored, find their sites by name, and refuse damage."""

from pathlib import Path

import pytest
import torch

from microtome.activations import Shards, shards_from_matrix
from microtome.errors import ArtifactDamaged, ArtifactForeign, NotEnoughTokens, SiteNotFound
from microtome.models import Site

SITE = Site("mlp_out", 3)


def test_blocks_hold_the_rows_in_order(tmp_path: Path) -> None:
    x = torch.randn(1000, 6)
    shards = shards_from_matrix(x, tmp_path, site=SITE, doc_tokens=90, shard_tokens=300, dtype="float32").shards
    assert shards.ranges == [(0, 360), (360, 720), (720, 1000)]
    blocks = [shards.block(i, SITE) for i in range(3)]
    assert torch.equal(torch.cat([block.x for block in blocks]), x)
    assert [block.start for block in blocks] == [0, 360, 720]
    assert shards.n_tokens == shards.n_kept == 1000
    assert shards.width(SITE) == 6


def test_bfloat16_is_the_default_and_keep_says_what_counts(tmp_path: Path) -> None:
    x = torch.randn(100, 4)
    shards = shards_from_matrix(x, tmp_path, doc_tokens=10, skip_first=1).shards
    block = shards.block(0, shards.sites[0])
    assert torch.equal(block.x, x.bfloat16())
    assert block.keep.tolist() == [i % 10 != 0 for i in range(100)]
    assert shards.n_kept == 90


def test_an_opened_artifact_equals_the_made_one(tmp_path: Path) -> None:
    made = shards_from_matrix(torch.randn(50, 4), tmp_path)
    opened = Shards.open(tmp_path / "shards")
    assert opened.id == made.shards.id
    assert (opened.corpus_id, opened.model_ref, opened.quantised) == (made.corpus.id, "matrix", None)


def test_an_unknown_site_names_the_nearest(tmp_path: Path) -> None:
    shards = shards_from_matrix(torch.randn(50, 4), tmp_path, site=SITE).shards
    with pytest.raises(SiteNotFound) as error:
        shards.block(0, "L3.mlp_in")
    assert "L3.mlp_out" in str(error.value)


def test_a_flipped_bit_is_found_and_named(tmp_path: Path) -> None:
    shards_from_matrix(torch.randn(50, 4), tmp_path)
    file = tmp_path / "shards" / "shard-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactDamaged, match="shard-00000"):
        Shards.open(tmp_path / "shards").block(0, "L0.resid_post")


def test_a_truncated_file_is_found_on_opening(tmp_path: Path) -> None:
    shards_from_matrix(torch.randn(50, 4), tmp_path)
    file = tmp_path / "shards" / "shard-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ArtifactDamaged, match="shard-00000"):
        Shards.open(tmp_path / "shards")


def test_a_corpus_is_not_shards(tmp_path: Path) -> None:
    shards_from_matrix(torch.randn(50, 4), tmp_path)
    with pytest.raises(ArtifactForeign):
        Shards.open(tmp_path / "corpus")


def test_an_empty_matrix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughTokens):
        shards_from_matrix(torch.zeros(0, 4), tmp_path)
