"""Two models side by side: planted directions that both have, and some that only the second has."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from microtome.activations import ActivationStream, Corpus, SideBySide, shards_from_matrix
from microtome.dictionaries import Crosscoder, TopK, load_any
from microtome.errors import ConfigError, ShapeMismatch, SiteNotFound
from microtome.models import Site, tiny
from microtome.shapes import Tensor
from microtome.training import train
from tests.training.planted import small_config

FIRST, SECOND = Site("resid_post", 0), Site("resid_post", 0, 2)
SHARED, OWN, WIDTH, ROWS = 8, 4, 20, 6000


class Two(NamedTuple):
    both: SideBySide
    corpus: Corpus
    rows: tuple[Tensor, Tensor]
    shared: tuple[Tensor, Tensor]
    own: Tensor
    """Of the second model alone."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    draw, folder = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("two")
    shared = tuple(F.normalize(torch.randn(SHARED, WIDTH, generator=draw), dim=1) for _ in range(2))
    own = F.normalize(torch.randn(OWN, WIDTH, generator=draw), dim=1)
    active = torch.rand(ROWS, SHARED + OWN, generator=draw).topk(3).indices
    values = torch.zeros(ROWS, SHARED + OWN).scatter_(1, active, 1 + torch.rand(ROWS, 3, generator=draw))
    rows = (values[:, :SHARED] @ shared[0], values[:, :SHARED] @ shared[1] + values[:, SHARED:] @ own)
    made = [shards_from_matrix(x, folder / str(number), site=FIRST, doc_tokens=32, dtype="float32") for number, x in enumerate(rows)]
    return Two(SideBySide(made[0].shards, made[1].shards), made[0].corpus, rows, (shared[0], shared[1]), own)


def test_the_same_rows_of_both_are_served(two: Two) -> None:
    assert two.both.sites == (FIRST, SECOND)
    batch = next(ActivationStream(two.both, two.corpus, sites=two.both.sites, batch_size=64, seed=0))
    place = (torch.cdist(batch[FIRST], two.rows[0]) + torch.cdist(batch[SECOND], two.rows[1])).argmin(1)
    assert torch.equal(batch[FIRST], two.rows[0][place])
    assert torch.equal(batch[SECOND], two.rows[1][place])


def test_a_crosscoder_finds_what_both_models_have_and_what_one_has(two: Two, tmp_path: Path) -> None:
    config = small_config(kind="crosscoder", reads=two.both.sites, d_dict=24, nonlinearity=TopK(k=3), tokens=500 * 128, lr=1e-2)
    trained = train(two.both, two.corpus, config=config, out=tmp_path / "d")
    made = load_any(trained.path)
    assert isinstance(made, Crosscoder)
    assert trained.quality.fvu.value < 0.1
    parts = [F.normalize(made.directions(part=part), dim=1) for part in range(2)]
    norms = made.norms()
    for number in range(SHARED):
        likeness = (parts[0] @ two.shared[0][number]) + (parts[1] @ two.shared[1][number])
        assert float(likeness.max()) > 1.8
        assert 0.4 < float(norms[likeness.argmax(), 0] / norms[likeness.argmax(), 1]) < 2.5
    for direction in two.own:
        likeness = parts[1] @ direction
        assert float(likeness.max()) > 0.9
        assert float(norms[likeness.argmax(), 0] / norms[likeness.argmax(), 1]) < 0.2


def test_a_transcoder_reads_one_model_and_writes_the_other(two: Two, tmp_path: Path) -> None:
    config = small_config(kind="transcoder", reads=(SECOND,), writes=(FIRST,), d_dict=SHARED + OWN, nonlinearity=TopK(k=3), tokens=100 * 128)
    trained = train(two.both, two.corpus, config=config, out=tmp_path / "d")
    assert trained.quality.fvu.value < 0.5
    assert trained.dictionary.reads == SECOND  # type: ignore[union-attr]  # it is not a set


def test_what_cannot_stand_side_by_side_is_refused(two: Two, tmp_path: Path) -> None:
    other = shards_from_matrix(two.rows[0][:512], tmp_path / "other", site=FIRST, doc_tokens=32)
    first = shards_from_matrix(two.rows[0], tmp_path / "first", site=FIRST, doc_tokens=32)
    with pytest.raises(ShapeMismatch, match="do not hold the same tokens"):
        SideBySide(first.shards, other.shards)
    for strange in (Site("resid_post", 0, 3), Site("mlp_in", 0), "L1.resid_post#2"):
        with pytest.raises(SiteNotFound, match="side by side do not hold"):
            two.both.site(strange)
    config = small_config(kind="sae", reads=(SECOND,), pooling="turn", tokens=128)
    with pytest.raises(ConfigError, match="token by token"):
        train(two.both, two.corpus, config=config, out=tmp_path / "d")
    with pytest.raises(ShapeMismatch, match="another model"):
        train(two.both, two.corpus, config=small_config(reads=(FIRST,)), out=tmp_path / "d", model=tiny("llama"))


def test_a_site_says_of_which_model_it_is() -> None:
    for text, site in (("L3.mlp_in#2", Site("mlp_in", 3, 2)), ("embed#3", Site("embed", None, 3)), ("final_norm", Site("final_norm"))):
        assert Site.parse(text) == site
        assert str(site) == text
    assert sorted([SECOND, Site("resid_post", 7), FIRST]) == [FIRST, Site("resid_post", 7), SECOND]
    for wrong in ("L3.mlp_in#0", "L3.mlp_in#", "L3.embed", "mlp_in", "L3.mlp_in#two"):
        with pytest.raises(SiteNotFound):
            Site.parse(wrong)
    with pytest.raises(SiteNotFound):
        tiny("llama").site("L0.mlp_in#2")
