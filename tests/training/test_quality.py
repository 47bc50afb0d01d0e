"""Quality figures against closed forms: perfect, mean and hand-made dictionaries, and splicing on a tiny model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from microtome.activations import CorpusConfig, HarvestConfig, build_corpus, harvest
from microtome.dictionaries import SAE, MeanDictionary, TopK
from microtome.errors import ShapeMismatch
from microtome.models import Site, tiny
from microtome.training import measure_quality
from microtome.training.measures import fvu, replaced, spliced
from microtome.training.quality import density
from tests.training.planted import SITE, planted_rows, planted_shards


def exact(d: int, *, site: Site = SITE) -> SAE:
    """Features are plus and minus each axis, all kept: reconstructs every row."""
    axes = torch.cat([torch.eye(d), -torch.eye(d)])
    weights = {"W_enc": axes, "W_dec": axes, "b_enc": torch.zeros(2 * d), "b_dec": torch.zeros(d)}
    return SAE(site=site, nonlinearity=TopK(k=2 * d), weights=weights, input_scale=1.0)


def test_fvu_is_0_for_a_perfect_dictionary_and_1_for_the_mean_of_the_rows() -> None:
    rows = planted_rows(500)
    assert fvu(exact(16), rows) == pytest.approx(0, abs=1e-10)
    assert fvu(MeanDictionary(rows.mean(0), site=SITE), rows) == pytest.approx(1, rel=1e-5)


def test_fvu_is_a_ratio_of_sums() -> None:
    rows = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    zero = MeanDictionary(torch.zeros(2), site=SITE)
    assert fvu(zero, rows) == pytest.approx(100 / 50)


def test_a_perfect_dictionary_has_perfect_figures(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    quality = measure_quality(exact(16), made.shards, corpus=made.corpus)
    assert quality.fvu.value == pytest.approx(0, abs=1e-9)
    assert quality.fvu.baselines["mean"] == pytest.approx(1, abs=0.05)
    assert quality.l0.value == 16
    assert quality.dead_share.value == pytest.approx(0.5), "all rows are positive, so the negative axes are never active"
    assert quality.never_active == 16
    assert quality.density_counts[-1] == 16
    assert quality.ce_recovered is None
    assert quality.documents == len(np.unique(made.corpus.doc_of(np.flatnonzero(np.repeat(made.corpus.splits == 2, 32)[:6000]))))


def test_density_counts_every_active_feature_once() -> None:
    counts, never = density(np.array([0, 0, 1, 10, 100, 1000]), 1000)
    assert (sum(counts), never) == (4, 2)
    assert counts[-1] == 1


def test_another_width_is_refused(tmp_path: Path) -> None:
    made = planted_shards(tmp_path, n=1000)
    with pytest.raises(ShapeMismatch, match="does not fit the shards"):
        measure_quality(exact(8), made.shards, corpus=made.corpus)


def test_another_model_than_the_shards_is_refused(tmp_path: Path) -> None:
    made = planted_shards(tmp_path, n=1000)
    with pytest.raises(ShapeMismatch, match="of another model"):
        measure_quality(exact(16), made.shards, corpus=made.corpus, model=tiny("llama"))


def test_splicing_a_perfect_dictionary_recovers_the_cross_entropy(tmp_path: Path) -> None:
    model = tiny("llama")
    site = Site("resid_post", 0)
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(f'{{"text": "document {n} says {n * n} and {"again " * (n % 7)}ends"}}' for n in range(60)))
    config = CorpusConfig(source=str(text), context_length=32, split=(0.5, 0.2, 0.3))
    corpus = build_corpus(model, config, out=tmp_path / "corpus")
    shards = harvest(model, corpus, config=HarvestConfig(sites=(site,), dtype="float32"), out=tmp_path / "shards")
    quality = measure_quality(exact(model.d_model, site=site), shards, corpus=corpus, model=model, ce_tokens=400)
    assert quality.ce_recovered is not None
    assert quality.ce_recovered.value == pytest.approx(1, abs=1e-3)
    assert quality.ce_recovered.baselines["mean"] == 0

    mean = MeanDictionary(torch.zeros(model.d_model), site=site)
    sums = spliced(model, shards, corpus=corpus, site=site, dictionaries=(mean, mean, mean), split="test", tokens=400)
    assert sums.tokens > 300
    np.testing.assert_array_equal(sums.dictionary, sums.mean)
    assert np.abs(sums.dictionary - sums.original).max() > 0


def test_positions_that_are_not_kept_pass_unchanged() -> None:
    keep = torch.tensor([[True, False, True]])
    x = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    changed = replaced(MeanDictionary(torch.zeros(4), site=SITE), keep)(x)
    assert changed is not None
    assert torch.equal(changed[0, 1], x[0, 1])
    assert torch.equal(changed[0, ::2], torch.zeros(2, 4))
