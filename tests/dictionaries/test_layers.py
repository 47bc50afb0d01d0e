"""A set of layers finds its members by site; a cross-layer set sums what they write, each bias once."""

import pytest
import torch

from microtome.dictionaries import DictionarySet, Transcoder
from microtome.errors import DictionaryInvalid, SiteNotFound
from microtome.models import Site
from microtome.testing import check_dictionary
from tests.dictionaries.kinds import crosscoder_of, draw, rows, sae_of, transcoder_of

LAYERS = 3


def source(layer: int) -> Transcoder:
    """The features of one source layer of a cross-layer transcoder over three layers."""
    writes = LAYERS - layer
    drawn = transcoder_of("jumprelu", writes=writes, skip=True).weights()
    weights = {name: weight + 0.1 * draw(*weight.shape, seed=20 + layer) for name, weight in drawn.items()}
    sites = tuple(Site("mlp_out", later) for later in range(layer, LAYERS))
    return Transcoder(reads=Site("mlp_in", layer), writes=sites, nonlinearity=transcoder_of("jumprelu").nonlinearity, weights=weights)


def inputs() -> dict[Site, torch.Tensor]:
    return {Site("mlp_in", layer): rows().roll(layer, 0) for layer in range(LAYERS)}


def test_a_cross_layer_transcoder_follows_its_formula() -> None:
    """y_l = sum_{l' <= l} W_dec^{l' to l} a^{l'} + b_dec^l + W_skip^l x^l (Ameisen et al. 2025)."""
    sources, x = [source(layer) for layer in range(LAYERS)], inputs()
    clt = DictionarySet(tuple(reversed(sources)), kind="cross-layer")
    values = []
    for each in sources:
        pre = x[each.reads] @ each.W_enc.T + each.b_enc
        values.append(pre * (pre > each.tensors["threshold"]))
    made = clt.reconstruct(x)
    assert list(made) == [Site("mlp_out", layer) for layer in range(LAYERS)]
    for layer, own in enumerate(sources):
        assert own.W_skip is not None
        expected = own.b_dec + x[own.reads] @ own.W_skip.T
        for earlier in range(layer + 1):
            W_dec = sources[earlier].W_dec
            expected = expected + values[earlier] @ (W_dec if W_dec.ndim == 2 else W_dec[:, layer - earlier])
        torch.testing.assert_close(made[Site("mlp_out", layer)], expected, rtol=1e-4, atol=1e-3)


def test_members_are_found_by_the_site_that_they_read_and_stand_in_its_order() -> None:
    clt = DictionarySet((source(2), source(0), source(1)), kind="cross-layer")
    assert clt.sites == tuple(Site("mlp_in", layer) for layer in range(LAYERS))
    assert clt.d_dict == 120
    assert clt.member(Site("mlp_in", 1)).writes == (Site("mlp_out", 1), Site("mlp_out", 2))
    with pytest.raises(SiteNotFound, match="no dictionary"):
        clt.member(Site("mlp_in", 7))
    codes = clt.encode(inputs())
    assert torch.equal(codes[Site("mlp_in", 1)].values, source(1).encode(inputs()[Site("mlp_in", 1)]).values)
    known, again = clt.reconstruct(inputs(), codes=codes), clt.reconstruct(inputs())
    assert all(torch.equal(made, again[site]) for site, made in known.items())


def test_a_layer_set_reconstructs_each_site_by_its_own_member() -> None:
    both = DictionarySet((sae_of("relu"), transcoder_of("topk")))
    x = {member.reads: rows() for member in both.members}
    for member in both.members:
        assert torch.equal(both.reconstruct(x)[member.writes[0]], member.reconstruct(rows()))


def test_a_member_may_read_several_sites() -> None:
    cross = crosscoder_of()
    x = rows()
    codes = DictionarySet((cross,)).encode({site: part for site, part in zip(cross.inputs, x.split([8, 4], 1), strict=True)})
    assert torch.equal(codes[cross.reads].values, cross.encode(x).values)


def test_what_is_no_set_is_named() -> None:
    with pytest.raises(DictionaryInvalid, match="one site each"):
        DictionarySet(())
    with pytest.raises(DictionaryInvalid, match="one site each"):
        DictionarySet((source(0), source(0)), kind="cross-layer")
    with pytest.raises(DictionaryInvalid, match="same site"):
        DictionarySet((source(0), source(1)))
    with pytest.raises(SiteNotFound, match="no activations"):
        DictionarySet((source(0),)).encode({Site("mlp_in", 1): rows()})


def test_a_set_keeps_the_promises() -> None:
    check_dictionary(DictionarySet(tuple(source(layer) for layer in range(LAYERS)), kind="cross-layer"))
