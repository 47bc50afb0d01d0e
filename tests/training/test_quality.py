"""Quality figures against closed forms: perfect, mean and hand-made dictionaries, and splicing on a tiny model."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from microtome.activations import SPLITS, Corpus, CorpusConfig, HarvestConfig, Shards, build_corpus, harvest, held_out
from microtome.config import from_dict, to_dict
from microtome.dictionaries import SAE, MeanDictionary, TopK, random_like
from microtome.errors import ShapeMismatch
from microtome.models import Model, Site, tiny
from microtome.training import ControlDensity, Quality, measure_quality
from microtome.training.measures import fvu
from microtome.training.quality import density, why_undefined
from microtome.training.splice import Splice, Spliced, Splicer, Variant, contexts_of
from tests.training.planted import SITE, planted_rows, planted_shards


def exact(d: int, *, site: Site = SITE) -> SAE:
    """Features are plus and minus each axis, all kept: reconstructs every row."""
    axes = torch.cat([torch.eye(d), -torch.eye(d)])
    weights = {"W_enc": axes, "W_dec": axes, "b_enc": torch.zeros(2 * d), "b_dec": torch.zeros(d)}
    return SAE(site=site, nonlinearity=TopK(k=2 * d), weights=weights, input_scale=1.0)


class Learnt(NamedTuple):
    model: Model
    shards: Shards
    corpus: Corpus


@pytest.fixture(scope="module")
def tiny_learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    return learnt(tmp_path_factory.mktemp("learnt"))


def learnt(folder: Path, *, device: str = "cpu", steps: int = 30) -> Learnt:
    """A tiny model that has learnt its text, so that its activations matter for what it predicts, and its activations."""
    model = tiny("llama", device=device)
    texts = [f"document {n} says {n * n} and {'again ' * (n % 7)}ends" for n in range(60)]
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(model.tokenizer.encode(text)) for text in texts], batch_first=True).to(device)
    model.hf.requires_grad_(True)
    adam = torch.optim.Adam(model.hf.parameters(), lr=1e-2)
    for _ in range(steps):
        adam.zero_grad()
        model.hf(ids, labels=ids).loss.backward()
        adam.step()
    model.hf.requires_grad_(False)
    config = CorpusConfig(source=str(folder / "text.jsonl"), context_length=32, split=(0.5, 0.2, 0.3))
    corpus = build_corpus(model, config, out=folder / "corpus")
    shards = harvest(model, corpus, config=HarvestConfig(sites=(SITE,), dtype="float32"), out=folder / "shards")
    return Learnt(model, shards, corpus)


def summed_losses(learnt: Learnt, change: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Cross-entropy over the test split's contexts with kept activations changed after block 0."""
    model, shards, corpus = learnt
    total = 0.0
    for low, high in pairwise(corpus.context_start.tolist()):
        if corpus.splits[corpus.doc_of(np.array([low]))[0]] != SPLITS.index("test") or high - low < 2:
            continue
        keep = torch.from_numpy(shards.keep[low:high].copy())
        ids = torch.from_numpy(corpus.tokens[low:high].astype(np.int64))

        def edited(*seen: torch.Tensor, keep: torch.Tensor = keep) -> torch.Tensor:
            changed = seen[-1].clone()
            changed[0, keep] = change(changed[0, keep])
            return changed

        handle = model.hf.model.layers[0].register_forward_hook(edited)
        logits = model.hf(ids[None]).logits[0]
        handle.remove()
        total += float(torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum"))
    return total


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


def test_the_densities_of_the_controls_stand_beside_the_dictionarys(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    quality = measure_quality(exact(16), made.shards, corpus=made.corpus)
    random, mean = quality.control_densities
    held = held_out(made.shards, made.corpus, site=SITE, n=65_536, split="test").x
    codes = random_like(exact(16)).encode(held)
    fired = torch.zeros(len(held), 32).scatter_(1, codes.indices, (codes.values != 0).float()).sum(0)
    assert (random.name, random.never_active, sum(random.counts)) == ("random", int((fired == 0).sum()), int((fired > 0).sum()))
    assert random.counts[-1] == int((fired / len(held) >= 10**-0.5).sum())
    assert mean == ControlDensity(name="mean", counts=(0,) * len(quality.density_counts), never_active=1)
    assert from_dict(Quality, json.loads(json.dumps(to_dict(quality)))) == quality


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


@pytest.mark.gpu
def test_a_dictionary_on_the_cpu_is_spliced_into_a_model_on_the_gpu(tmp_path: Path) -> None:
    model, shards, corpus = learnt(tmp_path, device="cuda")
    quality = measure_quality(exact(model.d_model), shards, corpus=corpus, model=model, ce_tokens=400)
    assert quality.ce_recovered is not None
    assert quality.ce_recovered.value == pytest.approx(1, abs=1e-3)


def test_dictionaries_move_to_the_models_device(tiny_learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MeanDictionary(torch.zeros(4), site=SITE).to("meta").mean.device.type == "meta"
    model, shards, corpus = tiny_learnt
    moved: list[tuple[str, torch.device]] = []
    for kind in (SAE, MeanDictionary):
        monkeypatch.setattr(kind, "to", lambda self, device: moved.append((type(self).__name__, device)) or self)
    sae, mean = exact(model.d_model), MeanDictionary(torch.zeros(model.d_model), site=SITE)
    Splicer(model, list(contexts_of(shards, corpus, split="test", tokens=400))).losses([Variant(sae), Variant(mean)])
    assert moved == [("SAE", model.device), ("MeanDictionary", model.device)]


def test_splicing_a_perfect_dictionary_recovers_the_cross_entropy(tiny_learnt: Learnt) -> None:
    model, shards, corpus = tiny_learnt
    quality = measure_quality(exact(model.d_model), shards, corpus=corpus, model=model, ce_tokens=400)
    assert quality.ce_recovered is not None
    assert quality.ce_recovered.value == pytest.approx(1, abs=1e-3)
    assert quality.ce_recovered.baselines["mean"] == 0


def test_cross_entropy_recovered_is_the_formula_on_losses_summed_by_hand(tiny_learnt: Learnt) -> None:
    """A dictionary that loses half of each activation, and both controls, spliced in by a hook, one context at a time."""
    model, shards, corpus = tiny_learnt
    half = exact(model.d_model)
    half.W_dec = half.W_dec / 2
    train_mean = held_out(shards, corpus, site=SITE, n=16_384, split="train").x.mean(0)
    random = random_like(half)
    by_hand = {
        "original": summed_losses(tiny_learnt, lambda x: x),
        "dictionary": summed_losses(tiny_learnt, lambda x: x / 2),
        "random": summed_losses(tiny_learnt, random.reconstruct),
        "mean": summed_losses(tiny_learnt, train_mean.expand_as),
    }
    span = by_hand["mean"] - by_hand["original"]

    quality = measure_quality(half, shards, corpus=corpus, model=model, ce_tokens=10_000)

    figure = quality.ce_recovered
    assert figure is not None
    assert figure.value == pytest.approx((by_hand["mean"] - by_hand["dictionary"]) / span, rel=1e-3)
    assert figure.baselines["random"] == pytest.approx((by_hand["mean"] - by_hand["random"]) / span, rel=1e-3)
    assert 0.02 < figure.value < 0.98
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high


def test_where_the_mean_costs_nothing_recovery_is_not_defined_and_says_so(tmp_path: Path) -> None:
    """The untrained model predicts no better with its activations than with their mean."""
    made = learnt(tmp_path, steps=0)
    quality = measure_quality(exact(32), made.shards, corpus=made.corpus, model=made.model, ce_tokens=400)
    assert quality.ce_recovered is None
    assert "not clearly above 0" in quality.ce_undefined


def test_the_cost_of_the_mean_decides_whether_recovery_is_defined() -> None:
    def losses(costs: list[float]) -> Spliced:
        cost = np.array(costs)
        same = 10 + 0 * cost
        return Spliced(original=10 - cost, dictionary=10 - cost / 2, controls={"mean": same}, tokens_by_document=same)

    assert why_undefined(losses([1.0, 2.0, 1.5, 1.0])) == ""
    assert why_undefined(losses([0.0, 0.0, 0.0, 0.0])).startswith("replacing the activations by their mean costs 0 (0 to 0 nats a token)")
    assert why_undefined(losses([-1.0, 2.0, 1.5, -2.0])) != ""


def test_positions_that_are_not_kept_pass_unchanged() -> None:
    keep = torch.tensor([[True, False, True]])
    x = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    changed = Splice(MeanDictionary(torch.zeros(4), site=SITE), keep).edits()[SITE](x)
    assert changed is not None
    assert torch.equal(changed[0, 1], x[0, 1])
    assert torch.equal(changed[0, ::2], torch.zeros(2, 4))
