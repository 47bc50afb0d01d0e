"""A crosscoder is one dictionary over several sites side by side."""

import pytest
import torch

from microtome.dictionaries import SAE, Crosscoder
from microtome.errors import DictionaryInvalid, ShapeMismatch, SiteNotFound
from microtome.models import Site
from tests.dictionaries.kinds import SITE, WRITES, crosscoder_of, features_of, rows


def test_with_one_site_it_is_an_sae_that_is_not_centred() -> None:
    cross, x = crosscoder_of(), rows()
    nonlinearity, weights = cross.nonlinearity, cross.weights()
    alone = Crosscoder(reads=(SITE,), widths=(12,), nonlinearity=nonlinearity, weights=weights, input_scales=(0.25,))
    sae = SAE(site=SITE, nonlinearity=nonlinearity, weights=weights, input_scale=0.25, centred=False)
    torch.testing.assert_close(alone.reconstruct(x), sae.reconstruct(x))
    torch.testing.assert_close(alone.directions(), sae.directions())
    torch.testing.assert_close(alone.encoder_directions(), sae.encoder_directions())


def test_the_part_of_a_site_is_a_slice_in_its_own_units() -> None:
    cross, x = crosscoder_of(), rows()
    codes = cross.encode(x)
    whole = cross.decode(codes)
    torch.testing.assert_close(torch.cat([cross.decode(codes, write=site) for site in WRITES[:2]], 1), whole)
    torch.testing.assert_close(cross.directions(write=WRITES[1]), cross.W_dec[:, 8:] / 2.0)
    torch.testing.assert_close(cross.directions(write=WRITES[0]), cross.W_dec[:, :8] / 0.25)
    torch.testing.assert_close(cross.norms()[:, 1], cross.W_dec[:, 8:].norm(dim=1))
    with pytest.raises(SiteNotFound):
        cross.directions(write=WRITES[2])


def test_two_models_may_share_the_name_of_a_site() -> None:
    cross, x = crosscoder_of(), rows()
    both = Crosscoder(reads=(SITE, SITE), widths=(8, 4), nonlinearity=cross.nonlinearity, weights=cross.weights(), input_scales=(0.25, 2.0))
    codes = both.encode(both.rows([x[:, :8], x[:, 8:]]))
    assert torch.equal(both.decode(codes, part=1), cross.decode(codes, write=WRITES[1]))
    assert torch.equal(both.directions(part=0), cross.directions(write=WRITES[0]))


def test_parts_that_do_not_fit_are_named() -> None:
    cross = crosscoder_of()
    with pytest.raises(ShapeMismatch, match="parts do not fit"):
        cross.rows([torch.zeros(2, 4), torch.zeros(2, 8)])
    for widths, scales in (((8, 5), (1.0, 1.0)), ((8, 4), (1.0,)), ((12,), (1.0,))):
        with pytest.raises(DictionaryInvalid, match="do not add up"):
            Crosscoder(reads=WRITES[:2], widths=widths, nonlinearity=cross.nonlinearity, weights=cross.weights(), input_scales=scales)
    with pytest.raises(DictionaryInvalid, match="positive"):
        Crosscoder(reads=WRITES[:2], widths=(8, 4), nonlinearity=cross.nonlinearity, weights=cross.weights(), input_scales=(1.0, -1.0))
    assert cross.inputs == WRITES[:2] == (Site("mlp_out", 1), Site("mlp_out", 2))
    assert set(features_of("topk")) == {"b_enc"}
