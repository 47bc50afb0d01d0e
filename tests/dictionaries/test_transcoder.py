"""A transcoder writes what its decoders, biases and skip say, each where it belongs."""

import pytest
import torch

from microtome.dictionaries import SparseCodes
from microtome.errors import DictionaryInvalid, FeatureNotFound, SiteNotFound
from tests.dictionaries.kinds import READ, SITE, WRITES, rows, transcoder_of


def nothing(n: int) -> SparseCodes:
    return SparseCodes(torch.zeros(n, 1, dtype=torch.int64), torch.zeros(n, 1), 40)


def test_the_bias_belongs_to_the_first_write() -> None:
    clt = transcoder_of(writes=3)
    first, *later = [clt.decode(nothing(2), write=site) for site in WRITES]
    torch.testing.assert_close(first, (clt.b_dec / 2).expand(2, -1))
    assert all(not made.any() for made in later)
    own = transcoder_of(writes=3, own_biases=True)
    for place, site in enumerate(WRITES):
        torch.testing.assert_close(own.decode(nothing(1), write=site)[0], own.b_dec[place] / 2)


def test_a_tied_decoder_writes_the_same_everywhere() -> None:
    clt, x = transcoder_of(writes=3, tied=True), rows()
    assert clt.decoders == 1
    here, there = clt.reconstruct(x, write=WRITES[0]), clt.reconstruct(x, write=WRITES[2])
    torch.testing.assert_close(here - there, (clt.b_dec / 2).expand(30, -1), rtol=1e-4, atol=1e-4)
    assert torch.equal(clt.directions(write=WRITES[1]), clt.directions())


def test_directions_are_of_the_site_asked_for() -> None:
    clt = transcoder_of(writes=3)
    for place, site in enumerate(WRITES):
        torch.testing.assert_close(clt.direction(7, write=site), clt.W_dec[7, place] / 2)
    with pytest.raises(SiteNotFound, match="does not write"):
        clt.directions(write=READ)
    with pytest.raises(FeatureNotFound):
        clt.direction(40, write=WRITES[1])


def test_the_skip_is_a_linear_map_past_the_features_to_the_first_write() -> None:
    plain, skipping, x = transcoder_of(), transcoder_of(skip=True), rows()
    assert skipping.W_skip is not None
    expected = (0.5 * x) @ skipping.W_skip.T / 2
    torch.testing.assert_close(skipping.reconstruct(x) - plain.reconstruct(x), expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(skipping.skip(x), expected)
    assert torch.equal(skipping.decode(skipping.encode(x)), plain.decode(plain.encode(x)))
    assert not plain.skip(x).any()
    two = transcoder_of(writes=2, skip=True)
    assert torch.equal(two.reconstruct(x, write=WRITES[1]), two.decode(two.encode(x), write=WRITES[1]))


def test_writes_are_different_sites() -> None:
    plain = transcoder_of()
    for writes in ((), (SITE, SITE)):
        with pytest.raises(DictionaryInvalid, match="different sites"):
            type(plain)(reads=READ, writes=writes, nonlinearity=plain.nonlinearity, weights=plain.weights())
