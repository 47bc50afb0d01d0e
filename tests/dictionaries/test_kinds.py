"""Every kind with every nonlinearity, for rows of several number types: equal to the dense formula, and promises kept."""

import pytest
import torch

from microtome.dictionaries import SAE, AbsTopK, Crosscoder, Dictionary, Transcoder, encoder
from microtome.dictionaries.nonlinearity import nonlinearity_from_json, nonlinearity_to_json
from microtome.errors import ConfigError, DictionaryInvalid, SelfCheckFailed
from microtome.testing import check_dictionary
from tests.dictionaries.kinds import DENSE, KINDS, NONLINEARITIES, SITE, dense, draw, features_of, rows, sae_of, transcoder_of

DTYPES = [torch.float32, torch.bfloat16, torch.float64]


def scaled_and_pre(dictionary: Dictionary, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the encoder reads before centring, and the pre-activations, as the documentation writes them."""
    assert isinstance(dictionary, SAE | Transcoder | Crosscoder)
    if isinstance(dictionary, Crosscoder):
        z = torch.cat([scale * part for scale, part in zip(dictionary.input_scales, x.split(list(dictionary.widths), 1), strict=True)], 1)
    else:
        z = dictionary.input_scale * x
    read = z - dictionary.b_dec if isinstance(dictionary, SAE) and dictionary.centred else z
    return z, read @ dictionary.W_enc.T + dictionary.b_enc


def made_by_formula(dictionary: Dictionary, *, values: torch.Tensor, z: torch.Tensor, write: int) -> torch.Tensor:
    assert isinstance(dictionary, SAE | Transcoder | Crosscoder)
    if isinstance(dictionary, Transcoder):
        table = dictionary.W_dec if dictionary.W_dec.ndim == 2 else dictionary.W_dec[:, write]
        bias = dictionary.b_dec[write] if dictionary.b_dec.ndim == 2 else dictionary.b_dec * (write == 0)
        skipped = z @ dictionary.W_skip.T if dictionary.W_skip is not None and write == 0 else 0.0
        return (values @ table + bias + skipped) / dictionary.output_scale
    made = values @ dictionary.W_dec + dictionary.b_dec
    if isinstance(dictionary, Crosscoder):
        return torch.cat([part / scale for scale, part in zip(dictionary.input_scales, made.split(list(dictionary.widths), 1), strict=True)], 1)
    return made / dictionary.input_scale


@pytest.fixture
def blocks_of_seven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_BLOCK_VALUES", 7 * 40)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("blocks_of_seven")
def test_codes_and_reconstructions_follow_the_dense_formula(kind: str, name: str, dtype: torch.dtype) -> None:
    dictionary, x = KINDS[kind](name), rows(dtype=dtype)
    z, pre = scaled_and_pre(dictionary, x.float())
    expected = DENSE[name](pre, features_of(name))

    codes = dictionary.encode(x)

    assert codes.values.dtype == torch.float32
    torch.testing.assert_close(dense(codes), expected, rtol=1e-4, atol=1e-4)
    for place, write in enumerate(dictionary.writes if isinstance(dictionary, Transcoder) else (None,)):
        wanted = made_by_formula(dictionary, values=expected, z=z, write=place)
        torch.testing.assert_close(dictionary.reconstruct(x, codes=codes, write=write), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_promises_of_a_dictionary(kind: str, name: str) -> None:
    check_dictionary(KINDS[kind](name))


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_a_whole_matrix_of_pre_activations_is_never_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_BLOCK_VALUES", 10 * 40)
    sae, most = sae_of(name), 0
    linear = torch.nn.functional.linear

    def watched(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        nonlocal most
        most = max(most, len(x))
        return linear(x, weight, bias)

    monkeypatch.setattr(encoder.F, "linear", watched)
    sae.encode(rows(95))
    assert most == 10


@pytest.mark.parametrize("name", ["relu", "jumprelu", "batchtopk", "gated"])
def test_a_row_without_an_active_feature_decodes_to_the_bias(name: str) -> None:
    sae = sae_of(name)
    quiet = sae.with_weights({**sae.weights(), "b_enc": torch.full((40,), -1e3), **({"b_mag": torch.zeros(40)} if name == "gated" else {})})
    codes = quiet.encode(rows())
    assert codes.nnz == 0
    torch.testing.assert_close(quiet.decode(codes), (sae.b_dec / 0.25).expand(30, -1))


def test_what_is_at_the_threshold_is_not_active() -> None:
    """a = pre where pre > threshold: JumpReLU is 0 at the threshold itself, and so is every other strict comparison."""
    weights = {"W_enc": torch.eye(3), "W_dec": torch.eye(3), "b_enc": torch.zeros(3), "b_dec": torch.zeros(3), "threshold": torch.full((3,), 0.5)}
    sae = SAE(site=SITE, nonlinearity=NONLINEARITIES["jumprelu"], weights=weights, input_scale=1.0)
    assert dense(sae.encode(torch.tensor([[0.5, 0.75, -1.0]]))).tolist() == [[0.0, 0.75, 0.0]]


def test_abstopk_keeps_signs() -> None:
    weights = {"W_enc": torch.eye(3), "W_dec": torch.eye(3), "b_enc": torch.zeros(3), "b_dec": torch.zeros(3)}
    sae = SAE(site=SITE, nonlinearity=AbsTopK(k=2), weights=weights, input_scale=1.0)
    assert dense(sae.encode(torch.tensor([[1.0, -3.0, 2.0]]))).tolist() == [[0.0, -3.0, 2.0]]
    assert sae.encode(torch.tensor([[1.0, -3.0, 2.0]])).nnz == 2


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearities_read_back(name: str) -> None:
    stored = nonlinearity_to_json(NONLINEARITIES[name])
    assert stored["name"] == name.removesuffix("-untrained")
    assert nonlinearity_from_json(stored) == NONLINEARITIES[name]


@pytest.mark.parametrize(("name", "tensor"), [("jumprelu", "threshold"), ("gated", "r_mag"), ("gated", "b_mag")])
def test_a_nonlinearity_s_own_tensors_are_checked(name: str, tensor: str) -> None:
    sae = sae_of(name)
    missing = {each: weight for each, weight in sae.weights().items() if each != tensor}
    with pytest.raises(DictionaryInvalid, match="tensors are not those"):
        sae.with_weights(missing)
    with pytest.raises(DictionaryInvalid, match="tensors are not those"):
        sae_of("topk").with_weights(sae.weights())
    with pytest.raises(DictionaryInvalid, match="wrong shape"):
        sae.with_weights({**missing, tensor: torch.zeros(1)})
    with pytest.raises(DictionaryInvalid, match="not finite"):
        sae.with_weights({**missing, tensor: torch.full((40,), torch.inf)})


def test_half_precision_weights_are_computed_with_in_fp32() -> None:
    sae = sae_of()
    half = sae.with_weights({name: weight.bfloat16() for name, weight in sae.weights().items()})
    exact = sae.with_weights({name: weight.bfloat16().float() for name, weight in sae.weights().items()})
    assert half.W_enc.dtype == torch.float32
    assert torch.equal(half.reconstruct(rows()), exact.reconstruct(rows()))


def test_an_unknown_pooling_is_named() -> None:
    assert sae_of(pooling="turn").pooling == "turn"
    with pytest.raises(DictionaryInvalid, match="no pooling"):
        sae_of(pooling="paragraph")
    with pytest.raises(ConfigError, match="at least 1"):
        AbsTopK(k=0)


def test_the_check_finds_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    sae = sae_of()
    monkeypatch.setattr(sae, "decode", lambda codes, write=None: 2 * SAE.decode(sae, codes))
    with pytest.raises(SelfCheckFailed, match="promise"):
        check_dictionary(sae)
    beside = transcoder_of("relu")
    mean = draw(1, 10, seed=0)
    monkeypatch.setattr(beside, "decode", lambda codes, write=None: Transcoder.decode(beside, codes) + mean * codes.rows)
    with pytest.raises(SelfCheckFailed) as caught:
        check_dictionary(beside)
    assert "beside" in str(caught.value)
