"""Every kind trains on a real forward's activations, is measured, read back, and a killed run of it ends as if it had not been."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from microtome.activations import Corpus, CorpusConfig, HarvestConfig, Shards, build_corpus, harvest, held_out_sites
from microtome.artifacts import sha256_of
from microtome.dictionaries import AbsTopK, BatchTopK, DictionarySet, Gated, JumpReLU, ReLU, TopK
from microtome.errors import ConfigError, SiteNotFound
from microtome.models import Model, Site, tiny
from microtome.training import L0, L1, StepRecord, TrainConfig, train
from microtome.training.measures import members_of, reconstructions
from tests.training.planted import small_config

READS = (Site("mlp_in", 0), Site("mlp_in", 1))
WRITES = (Site("mlp_out", 0), Site("mlp_out", 1))
KINDS: dict[str, dict[str, object]] = {
    "sae": {"kind": "sae", "reads": WRITES[:1]},
    "transcoder": {"kind": "transcoder", "reads": READS[:1], "writes": WRITES[:1]},
    "transcoder with two writes": {"kind": "transcoder", "reads": READS[:1], "writes": WRITES},
    "skip transcoder": {"kind": "transcoder", "reads": READS[:1], "writes": WRITES[:1], "skip": True},
    "layers": {"kind": "layers", "reads": READS, "writes": WRITES},
    "layers of SAEs": {"kind": "layers", "reads": WRITES},
    "cross-layer": {"kind": "cross-layer", "reads": READS, "writes": WRITES, "skip": True},
    "tied cross-layer": {"kind": "cross-layer", "reads": READS, "writes": WRITES, "tied_decoder": True},
    "crosscoder": {"kind": "crosscoder", "reads": WRITES},
}
NONLINEARITIES: dict[str, dict[str, object]] = {
    "topk": {"nonlinearity": TopK(k=3)},
    "abstopk": {"nonlinearity": AbsTopK(k=3)},
    "batchtopk": {"nonlinearity": BatchTopK(k=3)},
    "relu": {"nonlinearity": ReLU(), "losses": (L1(coefficient=0.2),)},
    "jumprelu": {"nonlinearity": JumpReLU(), "losses": (L0(target=3.0),), "bandwidth": 1.0},
    "gated": {"nonlinearity": Gated(), "losses": (L1(coefficient=0.5),)},
}


class Layers(NamedTuple):
    model: Model
    shards: Shards
    corpus: Corpus


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Layers:
    folder = tmp_path_factory.mktemp("layers")
    model = tiny("llama")
    (folder / "text.jsonl").write_text("\n".join(f'{{"text": "document {n} says {n * n} and {"again " * (n % 7)}ends"}}' for n in range(200)))
    corpus = build_corpus(model, CorpusConfig(source=str(folder / "text.jsonl"), context_length=32, split=(0.5, 0.2, 0.3)), out=folder / "corpus")
    shards = harvest(model, corpus, config=HarvestConfig(sites=(*READS, *WRITES), dtype="float32"), out=folder / "shards")
    return Layers(model, shards, corpus)


def config_of(kind: str, nonlinearity: str = "topk", **changes: object) -> TrainConfig:
    return small_config(**{**KINDS[kind], **NONLINEARITIES[nonlinearity], "tokens": 100 * 128, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_is_measured_and_read_back(kind: str, layers: Layers, tmp_path: Path) -> None:
    steps: list[StepRecord] = []
    config = config_of(kind)
    trained = train(layers.shards, layers.corpus, config=config, out=tmp_path / "d", model=layers.model, callbacks=[steps.append])
    assert steps[-1].fvu < 0.8 * steps[0].fvu
    quality = trained.quality
    assert quality.fvu.value < min(0.9, quality.fvu.baselines["random"])
    assert quality.fvu.baselines["mean"] == pytest.approx(1, abs=0.05)
    assert quality.l0.value == pytest.approx(3, abs=0.3)
    assert [each.site for each in quality.by_site] == ([] if len(config.targets) == 1 else list(config.targets))
    assert isinstance(trained.dictionary, DictionarySet) == (config.kind in {"layers", "cross-layer"})
    if quality.by_site:
        assert quality.fvu.value == pytest.approx(sum(each.fvu.value for each in quality.by_site) / len(quality.by_site))


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_every_nonlinearity_trains(nonlinearity: str, layers: Layers, tmp_path: Path) -> None:
    trained = train(layers.shards, layers.corpus, config=config_of("cross-layer", nonlinearity), out=tmp_path / "d")
    assert trained.quality.fvu.value < 0.9
    assert trained.quality.l0.value < 24


def test_a_batchtopk_dictionary_keeps_k_features_on_average_by_its_stored_threshold(layers: Layers, tmp_path: Path) -> None:
    trained = train(layers.shards, layers.corpus, config=config_of("sae", "batchtopk"), out=tmp_path / "d")
    assert trained.quality.l0.value == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("case", ["sae relu", "sae gated", "layers batchtopk", "cross-layer jumprelu", "crosscoder topk"])
def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(case: str, layers: Layers, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def die(record: StepRecord) -> None:
        if record.step == 17:
            raise Killed

    kind, nonlinearity = case.split()
    config = config_of(kind, nonlinearity, tokens=30 * 128, checkpoint_every_tokens=5 * 128, dead_after_tokens=500)
    whole = train(layers.shards, layers.corpus, config=config, out=tmp_path / "whole")
    with pytest.raises(Killed):
        train(layers.shards, layers.corpus, config=config, out=tmp_path / "killed", callbacks=[die])
    steps: list[StepRecord] = []
    resumed = train(layers.shards, layers.corpus, config=config, out=tmp_path / "killed", callbacks=[steps.append])
    assert steps[0].step == 16
    assert sha256_of(tmp_path / "killed" / "weights.safetensors") == sha256_of(tmp_path / "whole" / "weights.safetensors")
    assert resumed.id == whole.id


def test_many_members_learn_the_same_on_one_core_and_on_several(layers: Layers, tmp_path: Path) -> None:
    before, config = torch.get_num_threads(), config_of("layers", reads=(*READS, *WRITES), writes=(), tokens=12 * 128)
    try:
        for cores in (1, 2):
            torch.set_num_threads(cores)
            train(layers.shards, layers.corpus, config=config, out=tmp_path / str(cores))
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    assert sha256_of(tmp_path / "1" / "weights.safetensors") == sha256_of(tmp_path / "2" / "weights.safetensors")


def test_the_members_of_a_set_of_layers_do_not_know_each_other(layers: Layers, tmp_path: Path) -> None:
    both = train(layers.shards, layers.corpus, config=config_of("layers"), out=tmp_path / "both").dictionary
    alone = train(layers.shards, layers.corpus, config=config_of("layers", reads=READS[:1], writes=WRITES[:1]), out=tmp_path / "alone").dictionary
    rows = {site: found.x for site, found in held_out_sites(layers.shards, layers.corpus, sites=(*READS, *WRITES), n=200).items()}
    assert torch.equal(reconstructions(both, rows)[WRITES[0]], reconstructions(alone, rows)[WRITES[0]])


def test_a_search_tries_rates_on_a_set_and_one_rate_trains_it(layers: Layers, tmp_path: Path) -> None:
    config = config_of("layers", lr=None, lr_search=(1e-6, 4e-3), lr_search_tokens=20 * 128)
    trained = train(layers.shards, layers.corpus, config=config, out=tmp_path / "d")
    assert trained.lr == 4e-3
    assert len(members_of(trained.dictionary)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "transcoder", "reads": READS[:1]}, "the site that the transcoder writes"),
        ({"kind": "sae", "reads": READS}, "one site"),
        ({"kind": "sae", "reads": READS[:1], "writes": WRITES[:1]}, "writes what it reads"),
        ({"kind": "layers", "reads": READS, "writes": WRITES[:1]}, "one for each"),
        ({"kind": "sae", "reads": READS[:1], "skip": True}, "would copy its input"),
        ({"reads": READS[:1], "nonlinearity": ReLU()}, "nothing asks a ReLU dictionary to be sparse"),
        ({"reads": READS[:1], "losses": (L0(),)}, "the loss l0 has no meaning here"),
        ({"reads": READS[:1], "nonlinearity": TopK(k=33)}, "k is out of range"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_config(**changes)


def test_a_site_that_was_not_harvested_is_named(layers: Layers, tmp_path: Path) -> None:
    config = config_of("transcoder", writes=(Site("resid_post", 0),))
    with pytest.raises(SiteNotFound, match=r"L0\.mlp_out"):
        train(layers.shards, layers.corpus, config=config, out=tmp_path / "d")
