"""An SAE keeps its promises in the model's units: directions add up to the reconstruction, encoder directions are gradients."""

import pytest
import torch

from microtome.dictionaries import SAE, MeanDictionary, TopK, random_like
from microtome.dictionaries.nonlinearity import nonlinearity_from_json, nonlinearity_to_json
from microtome.errors import ConfigError, DictionaryInvalid, FeatureNotFound, NotRegistered, ShapeMismatch, SiteNotFound
from microtome.models import Site

SITE = Site("resid_post", 3)


def weights_of(d_in: int = 12, d_dict: int = 40) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    W_enc, W_dec = torch.randn(2, d_dict, d_in, generator=generator)
    b_enc = 0.1 * torch.randn(d_dict, generator=generator)
    return {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": torch.randn(d_in, generator=generator)}


def sae_of(*, k: int = 5, input_scale: float = 0.25) -> SAE:
    return SAE(site=SITE, nonlinearity=TopK(k=k), weights=weights_of(), input_scale=input_scale)


def rows(n: int = 30) -> torch.Tensor:
    return 4 * torch.randn(n, 12, generator=torch.Generator().manual_seed(1))


def test_encode_and_decode_follow_the_formula() -> None:
    sae, x, w = sae_of(), rows(), weights_of()
    pre = (0.25 * x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    kept = torch.zeros_like(pre).scatter(1, pre.topk(5).indices, 1.0)
    dense = pre.relu() * kept
    codes = sae.encode(x)
    torch.testing.assert_close(torch.zeros_like(dense).scatter_add(1, codes.indices, codes.values), dense)
    torch.testing.assert_close(sae.decode(codes), (dense @ w["W_dec"] + w["b_dec"]) / 0.25)


def test_the_reconstruction_is_the_sum_of_values_times_directions() -> None:
    sae, x = sae_of(), rows()
    codes = sae.encode(x)
    nothing = sae.decode(type(codes)(codes.indices, torch.zeros_like(codes.values), codes.d_dict))
    parts = (codes.values[:, :, None] * sae.directions()[codes.indices]).sum(1)
    torch.testing.assert_close(sae.reconstruct(x), nothing + parts, rtol=1e-5, atol=1e-4)


def test_the_encoder_direction_is_the_gradient_of_the_value() -> None:
    sae, x = sae_of(), rows(1)
    feature = int(sae.encode(x).indices[0, 0])
    step = 0.01 * torch.randn(1, 12, generator=torch.Generator().manual_seed(2))

    def value(at: torch.Tensor) -> torch.Tensor:
        codes = sae.encode(at)
        return codes.values[codes.indices == feature].sum()

    torch.testing.assert_close(value(x + step) - value(x), (step @ sae.encoder_direction(feature))[0], rtol=1e-3, atol=1e-4)


def test_rows_do_not_depend_on_their_neighbours_or_the_block() -> None:
    sae, x = sae_of(), rows(64)
    whole, alone = sae.encode(x), [sae.encode(row[None]) for row in x]
    assert [set(row.tolist()) for row in whole.indices] == [set(codes.indices[0].tolist()) for codes in alone]
    torch.testing.assert_close(sae.reconstruct(x), torch.cat([sae.decode(codes) for codes in alone]), rtol=1e-5, atol=1e-4)


def test_bf16_rows_are_encoded_in_fp32() -> None:
    sae, x = sae_of(), rows().bfloat16()
    torch.testing.assert_close(sae.encode(x).values, sae.encode(x.float()).values)


def test_no_rows_give_no_codes() -> None:
    codes = sae_of().encode(torch.zeros(0, 12))
    assert (codes.rows, codes.nnz) == (0, 0)


def test_directions_match_their_rows() -> None:
    sae = sae_of()
    torch.testing.assert_close(sae.direction(7), sae.directions()[7])
    torch.testing.assert_close(sae.encoder_direction(7), sae.encoder_directions()[7])


def test_what_does_not_fit_is_named() -> None:
    sae = sae_of()
    with pytest.raises(ShapeMismatch, match="do not fit"):
        sae.encode(torch.zeros(3, 13))
    with pytest.raises(FeatureNotFound, match="no feature 40"):
        sae.direction(40)
    with pytest.raises(SiteNotFound, match="does not write"):
        sae.directions(write=Site("mlp_out", 3))
    with pytest.raises(ConfigError, match="at least 1"):
        TopK(k=0)


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec"])
def test_weights_are_checked(name: str) -> None:
    broken = {**weights_of()}
    broken[name] = broken[name].clone()
    broken[name].view(-1)[3] = float("nan")
    with pytest.raises(DictionaryInvalid, match="not finite"):
        SAE(site=SITE, nonlinearity=TopK(k=2), weights=broken, input_scale=1.0)
    broken[name] = torch.zeros(5, 5)
    with pytest.raises(DictionaryInvalid):
        SAE(site=SITE, nonlinearity=TopK(k=2), weights=broken, input_scale=1.0)
    del broken[name]
    with pytest.raises(DictionaryInvalid, match="tensors are not those"):
        SAE(site=SITE, nonlinearity=TopK(k=2), weights=broken, input_scale=1.0)


def test_nonlinearities_read_back_and_unknown_ones_are_named() -> None:
    assert nonlinearity_from_json(nonlinearity_to_json(TopK(k=7))) == TopK(k=7)
    with pytest.raises(NotRegistered, match="topk"):
        nonlinearity_from_json({"name": "topq", "k": 7})
    with pytest.raises(ConfigError, match='Did you mean "k"'):
        nonlinearity_from_json({"name": "topk", "K": 7})


def test_the_random_control_resembles_the_dictionary_and_is_seeded() -> None:
    sae = sae_of()
    control, again, other = random_like(sae), random_like(sae), random_like(sae, seed=1)
    assert (control.d_dict, control.d_in, control.nonlinearity, control.input_scale) == (sae.d_dict, sae.d_in, sae.nonlinearity, sae.input_scale)
    assert torch.equal(control.W_enc, again.W_enc)
    assert not torch.equal(control.W_enc, other.W_enc)
    torch.testing.assert_close(control.W_dec.norm(dim=1), torch.ones(40))


def test_the_gain_of_the_random_control_cannot_be_bettered() -> None:
    sae = SAE(site=SITE, nonlinearity=TopK(k=5), weights={**weights_of(), "b_dec": torch.zeros(12)}, input_scale=1.0)
    control = random_like(sae)
    x = torch.randn(2000, 12, generator=torch.Generator().manual_seed(3))

    def error(gain: float) -> float:
        scaled = {**control.weights(), "W_enc": gain * control.W_enc}
        return float((SAE(site=SITE, nonlinearity=TopK(k=5), weights=scaled, input_scale=1.0).reconstruct(x) - x).square().mean())

    assert error(1.0) <= min(error(0.8), error(1.25))


def test_the_mean_control_gives_the_mean_and_no_feature() -> None:
    mean = torch.arange(12.0)
    control = MeanDictionary(mean, site=SITE)
    codes = control.encode(rows(4))
    assert codes.nnz == 0
    assert torch.equal(control.decode(codes), mean.expand(4, 12))
