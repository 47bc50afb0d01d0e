"""Controls: each is the best or the plainest of its sort, by an oracle."""

import pytest
import torch

from microtome.dictionaries import SAE, DictionarySet, MeanDictionary, kmeans, pca, random_like
from microtome.errors import DictionaryInvalid, NotEnoughTokens
from microtome.testing import check_dictionary
from tests.dictionaries.kinds import KINDS, NONLINEARITIES, READ, SITE, WRITES, draw, rows, sae_of, transcoder_of


def spread(n: int = 400) -> torch.Tensor:
    """Rows with a mean and unequal directions."""
    return draw(n, 12, seed=1) @ (draw(12, 12, seed=2) * torch.linspace(0.2, 2, 12)) + 3


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_random_control_is_of_the_same_kind_and_seeded(kind: str, name: str) -> None:
    dictionary = KINDS[kind](name)
    control, again, other = random_like(dictionary), random_like(dictionary), random_like(dictionary, seed=1)
    assert type(control) is type(dictionary)
    assert (control.d_dict, control.inputs, control.writes, control.pooling) == (40, dictionary.inputs, dictionary.writes, dictionary.pooling)
    assert torch.equal(control.directions(), again.directions())
    assert not torch.equal(control.directions(), other.directions())
    check_dictionary(control)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("name", ["relu", "jumprelu", "gated"])
def test_a_random_control_is_as_active_as_the_dictionary(name: str, centred: bool) -> None:
    sae = sae_of(name, centred=centred)
    x = (draw(3000, 12, seed=9) + sae.b_dec) / sae.input_scale
    mine, control = sae.encode(x).nnz / 3000, random_like(sae).encode(x).nnz / 3000
    assert control == pytest.approx(mine, rel=0.1)


def test_a_random_batchtopk_has_k_active_features_on_average() -> None:
    sae = sae_of("batchtopk", centred=False)
    x = (draw(3000, 12, seed=9) + sae.b_dec) / sae.input_scale
    assert random_like(sae).encode(x).nnz / 3000 == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("name", ["relu", "jumprelu", "topk", "abstopk", "batchtopk", "gated"])
def test_the_gain_of_a_random_autoencoder_cannot_be_bettered(name: str) -> None:
    sae = sae_of(name)
    control = random_like(sae)
    x = (draw(4000, 12, seed=9) + sae.b_dec) / sae.input_scale

    def error(gain: float) -> float:
        codes = control.encode(x)
        made = control.decode(type(codes)(codes.indices, gain * codes.values, codes.d_dict))
        return float((made - x).square().mean())

    assert error(1.0) <= min(error(0.8), error(1.25))
    assert error(1.0) < error(0.0)


def test_a_random_transcoder_keeps_sizes_and_what_goes_past_the_features() -> None:
    transcoder = transcoder_of("jumprelu", writes=2, skip=True)
    control = random_like(transcoder)
    x = draw(3000, 12, seed=9) / transcoder.input_scale
    torch.testing.assert_close(control.directions(write=WRITES[1]).norm(dim=1), transcoder.directions(write=WRITES[1]).norm(dim=1))
    torch.testing.assert_close(control.skip(x), transcoder.skip(x))
    assert torch.equal(control.b_dec, transcoder.b_dec)
    mine, random = transcoder.encode(x), control.encode(x)
    assert random.nnz == pytest.approx(mine.nnz, rel=0.1)
    assert float(random.values.square().sum() / random.nnz) == pytest.approx(float(mine.values.square().sum() / mine.nnz), rel=0.1)


def test_a_random_set_has_a_member_for_each() -> None:
    both = DictionarySet((sae_of("relu"), transcoder_of("topk")))
    control = random_like(both)
    assert (control.sites, control.kind) == (both.sites, both.kind)
    with pytest.raises(DictionaryInvalid, match="no random control"):
        random_like(MeanDictionary(torch.zeros(3), site=SITE))


@pytest.mark.parametrize("k", [1, 4, 12])
def test_pca_is_the_best_linear_code_of_its_size(k: int) -> None:
    """With k fixed components the squared error is the sum of the smaller eigenvalues; choosing k anew for each row does at least as well."""
    x = spread()
    dictionary = pca(x, site=SITE, k=k)
    check_dictionary(dictionary, rows=x[:40])
    axes = dictionary.directions()
    torch.testing.assert_close(axes @ axes.T, torch.eye(12), rtol=1e-5, atol=1e-5)
    centred = (x - x.mean(0)).double()
    spectrum = torch.linalg.svdvals(centred).square()
    error = float((dictionary.reconstruct(x) - x).double().square().sum())
    assert error <= float(spectrum[k:].sum()) + 1e-3
    if k == 12:
        torch.testing.assert_close(dictionary.reconstruct(x), x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(((centred @ axes.T.double()).square().sum(0)), spectrum, rtol=1e-4, atol=1e-3)


def test_kmeans_reconstructs_a_row_as_its_nearest_centroid() -> None:
    x = spread()
    dictionary = kmeans(x, 16, site=SITE, iterations=100)
    codes = dictionary.encode(x)
    assert (codes.values == 1).all()
    centroids = dictionary.directions() + dictionary.b_dec
    nearest = torch.cdist(x, centroids).argmin(1)
    assert torch.equal(codes.indices[:, 0], nearest)
    torch.testing.assert_close(dictionary.reconstruct(x), centroids[nearest], rtol=1e-5, atol=1e-4)
    means = torch.stack([x[nearest == place].mean(0) for place in range(16)])
    torch.testing.assert_close(centroids, means, rtol=1e-4, atol=1e-4)
    check_dictionary(dictionary, rows=x[:40])


def test_kmeans_finds_planted_clusters_and_leaves_no_centroid_empty() -> None:
    centres = 20 * draw(5, 12, seed=3)
    labels = torch.arange(500) % 5
    x = centres[labels] + 0.1 * draw(500, 12, seed=4)
    dictionary = kmeans(x, 5, site=SITE, iterations=50, seed=2)
    error = (dictionary.reconstruct(x) - x).square().sum(1).mean()
    assert error < 0.2
    few = torch.cat([20 * torch.eye(12)[:3], -20 * torch.eye(12)[:3]]).repeat(8, 1)  # six places, so that a random start takes some of them twice
    for seed in range(5):
        assert torch.equal(kmeans(few, 6, site=SITE, seed=seed).reconstruct(few), few)


def test_too_few_rows_are_named() -> None:
    with pytest.raises(NotEnoughTokens, match="k-means"):
        kmeans(rows(3), 4, site=SITE)
    with pytest.raises(NotEnoughTokens, match="PCA"):
        pca(rows(1), site=SITE, k=1)


def test_the_mean_may_stand_at_the_writes_of_a_transcoder() -> None:
    mean = MeanDictionary(torch.arange(10.0), site=WRITES[0], reads=READ, d_in=12)
    check_dictionary(mean)
    assert torch.equal(mean.reconstruct(rows(3)), torch.arange(10.0).expand(3, 10))
    assert isinstance(pca(spread(), site=SITE, k=2, pooling="turn"), SAE)
