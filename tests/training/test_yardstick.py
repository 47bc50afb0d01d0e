"""The controls beside a dictionary: against figures made by hand, each once, and a reason for each that is not there."""

import json
from pathlib import Path

import pytest
import torch

from microtome.activations import CorpusConfig, HarvestConfig, build_corpus, harvest, held_out
from microtome.dictionaries import DictionarySet, TopK, Transcoder, kmeans, neurons, pca
from microtome.dictionaries.nonlinearity import Nonlinearity
from microtome.models import Model, Site, tiny
from microtome.training import measure_quality
from microtome.training.controls import CENTROIDS, ROUNDS, controls_of
from microtome.training.measures import fvu
from microtome.training.source import StoredRows
from microtome.training.splice import Splicer, Variant, contexts_of
from microtome.training.yardstick import Yardstick
from tests.training.planted import SITE, planted_shards
from tests.training.test_quality import Learnt, exact, learnt, summed_losses


@pytest.fixture(scope="module")
def tiny_learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    return learnt(tmp_path_factory.mktemp("learnt"))


def test_pca_and_k_means_stand_beside_an_autoencoder_at_its_l0(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    quality = measure_quality(exact(16), made.shards, corpus=made.corpus)
    fitted = held_out(made.shards, made.corpus, site=SITE, n=16_384, split="train").x
    held = held_out(made.shards, made.corpus, site=SITE, n=65_536, split="test").x
    assert quality.l0.baselines["pca"] == 16, "as many components as the dictionary has active features"
    assert quality.l0.baselines["k-means"] == 1
    assert quality.fvu.baselines["pca"] == pytest.approx(fvu(pca(fitted, site=SITE, k=16), held), rel=1e-4, abs=1e-9)
    centroids = kmeans(fitted, min(CENTROIDS, 32), site=SITE, iterations=ROUNDS)
    assert quality.fvu.baselines["k-means"] == pytest.approx(fvu(centroids, held), rel=1e-4)
    assert set(quality.dead_share.baselines) == {"random", "mean"}
    assert set(quality.controls_left_out) == {"frozen decoder", "neurons"}


def test_cross_entropy_recovered_by_a_control_is_the_formula_on_losses_summed_by_hand(tiny_learnt: Learnt) -> None:
    model, shards, corpus = tiny_learnt
    quality = measure_quality(exact(model.d_model), shards, corpus=corpus, model=model, ce_tokens=10_000)
    fitted = held_out(shards, corpus, site=SITE, n=16_384, split="train").x
    centroids = kmeans(fitted, min(CENTROIDS, 2 * model.d_model, len(fitted) // 4), site=SITE, iterations=ROUNDS)
    original, mean = summed_losses(tiny_learnt, lambda x: x), summed_losses(tiny_learnt, fitted.mean(0).expand_as)
    spliced = summed_losses(tiny_learnt, centroids.reconstruct)
    assert quality.ce_recovered is not None
    assert quality.ce_recovered.baselines["k-means"] == pytest.approx((mean - spliced) / (mean - original), rel=1e-3)
    assert set(quality.ce_recovered.baselines) == {"random", "k-means", "pca", "mean"}


def test_what_does_not_depend_on_the_dictionary_is_run_once(tiny_learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> None:
    model, shards, corpus = tiny_learnt
    spliced: list[int] = []
    losses = Splicer.losses
    monkeypatch.setattr(Splicer, "losses", lambda self, variants: spliced.append(len(variants)) or losses(self, variants))
    yardstick = Yardstick(StoredRows(shards=shards, corpus=corpus), model=model, ce_tokens=400)
    first = yardstick.measure(exact(model.d_model), (SITE,), report=lambda note: None)
    assert sum(spliced) == 5, "dictionary, random, k-means, pca, mean"
    spliced.clear()
    again = yardstick.measure(exact(model.d_model), (SITE,), report=lambda note: None)
    assert sum(spliced) == 2, "dictionary and random"
    assert [list(each.controls["mean"]) for each in (first.losses[None], again.losses[None])] == [list(first.losses[None].mean)] * 2


def test_forwards_from_the_middle_cost_what_whole_ones_cost_in_nats(tiny_learnt: Learnt) -> None:
    """A dictionary at the last layer, gone on with from there, and the same from the beginning."""
    model, shards, corpus = tiny_learnt
    last = Site("resid_post", model.n_layers - 1)
    half = exact(model.d_model, site=last)
    half.W_dec = half.W_dec * torch.linspace(-1, 1, model.d_model)
    contexts = list(contexts_of(shards, corpus, split="test", tokens=400))
    [found] = Splicer(model, contexts).losses([Variant(half)])
    whole = Splicer(model, contexts)
    whole._replay.holds = False
    assert found == pytest.approx(whole.losses([Variant(half)])[0], rel=1e-5)
    assert found.sum() != pytest.approx(whole.original.sum(), rel=1e-2)


def transcoder(model: Model, layer: int, *, nonlinearity: Nonlinearity) -> Transcoder:
    generator = torch.Generator().manual_seed(layer)
    weights = {name: torch.randn(48, model.d_model, generator=generator) for name in ("W_enc", "W_dec")}
    weights |= {"b_enc": torch.zeros(48), "b_dec": torch.zeros(model.d_model)}
    return Transcoder(reads=Site("mlp_in", layer), writes=(Site("mlp_out", layer),), nonlinearity=nonlinearity, weights=weights, input_scale=1.0)


def test_a_models_own_neurons_stand_beside_transcoders_and_sets_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": f"{n} and {n * n} are numbers, as {n * n * n} is"}) for n in range(80)))
    corpus = build_corpus(model, CorpusConfig(source=str(tmp_path / "text.jsonl"), context_length=32, split=(0.5, 0.2, 0.3)), out=tmp_path / "c")
    sites = tuple(Site(kind, layer) for layer in (0, 1) for kind in ("mlp_in", "mlp_out"))
    shards = harvest(model, corpus, config=HarvestConfig(sites=sites, dtype="float32"), out=tmp_path / "s")
    one = transcoder(model, 1, nonlinearity=TopK(k=4))
    quality = measure_quality(one, shards, corpus=corpus, model=model, ce_tokens=200)
    rows = {site: held_out(shards, corpus, site=site, n=65_536, split="test").x for site in sites}
    own = neurons(model, 1, k=4)
    made = own.reconstruct(rows[sites[2]])
    wanted = rows[sites[3]]
    assert quality.fvu.baselines["neurons"] == pytest.approx(
        float((made - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()), rel=1e-4
    )
    assert quality.l0.baselines["neurons"] == 4
    assert set(quality.controls_left_out) == {"frozen decoder", "k-means", "pca"}

    both = DictionarySet((transcoder(model, 0, nonlinearity=TopK(k=4)), one))
    of_set = measure_quality(both, shards, corpus=corpus, model=model, ce_tokens=200)
    assert of_set.by_site[1].fvu.baselines["neurons"] == pytest.approx(quality.fvu.baselines["neurons"], rel=1e-6)
    assert measure_quality(one, shards, corpus=corpus).controls_left_out["neurons"] == "are the model's, which was not given"

    assert all(each.ce_recovered is not None or each.ce_undefined for each in of_set.by_site)
    monkeypatch.setattr("microtome.training.yardstick.ALONE_SITES", 1)
    fewer = measure_quality(both, shards, corpus=corpus, model=model, ce_tokens=200)
    assert all(each.ce_recovered is None and not each.ce_undefined for each in fewer.by_site)
    asked = measure_quality(both, shards, corpus=corpus, model=model, ce_tokens=200, alone=True)
    assert asked.by_site == of_set.by_site


def test_a_set_of_autoencoders_has_components_and_centroids_of_each_layer() -> None:
    sites = (SITE, Site("resid_post", 1))
    both = DictionarySet(tuple(exact(8, site=site) for site in sites))
    generator = torch.Generator().manual_seed(0)
    chosen = controls_of(both, l0=3, rows=lambda of: {site: torch.randn(200, 8, generator=generator) for site in of}, model=None)
    for name in ("pca", "k-means"):
        made = chosen.made[chosen.names[name]]()
        assert isinstance(made, DictionarySet)
        assert made.sites == sites
