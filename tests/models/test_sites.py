import pytest

from microtome.config import from_dict, to_dict
from microtome.errors import SiteNotFound
from microtome.models import KINDS, Site
from microtome.models.sites import LAYERLESS


@pytest.mark.parametrize("kind", KINDS)
def test_a_site_is_read_back_as_it_prints(kind: str):
    site = Site(kind, None if kind in LAYERLESS else 11)
    assert Site.parse(str(site)) == site
    assert Site.from_json(to_dict(site)) == site


def test_sites_sort_as_a_forward_reaches_them():
    names = ["final_norm", "L10.resid_pre", "L2.resid_post", "L2.attn_out", "L2.resid_mid", "embed", "L2.mlp_in"]
    ordered = ["embed", "L2.attn_out", "L2.resid_mid", "L2.mlp_in", "L2.resid_post", "L10.resid_pre", "final_norm"]
    assert [str(site) for site in sorted(map(Site.parse, names))] == ordered


def test_a_misspelt_kind_names_the_nearest_site():
    with pytest.raises(SiteNotFound, match="resid_post") as caught:
        Site.parse("L3.residpost")
    assert "resid_post" in caught.value.do


@pytest.mark.parametrize("text", ["", "L3", "3.resid_post", "L-1.resid_post", "L3.embed", "resid_post", "L3.resid_post "])
def test_what_is_no_site_is_refused(text: str):
    with pytest.raises(SiteNotFound):
        Site.parse(text)


def test_a_config_can_hold_sites():
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Wants:
        sites: tuple[Site, ...]

    config = Wants(sites=(Site("resid_post", 1), Site("embed")))
    assert to_dict(config) == {"sites": ["L1.resid_post", "embed"]}
    assert from_dict(Wants, to_dict(config)) == config
