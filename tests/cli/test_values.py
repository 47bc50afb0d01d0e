"""Values and sites on the command line of `train`."""

import pytest

from microtome.cli.train import Architecture, Recipe, train_config
from microtome.cli.values import parse_value
from microtome.dictionaries import NONLINEARITIES, BatchTopK, JumpReLU, TopK
from microtome.errors import ConfigError, NotRegistered
from microtome.models import Site
from microtome.training import L0, L1, LOSSES, Matryoshka

MLPS = tuple(Site(kind, layer) for layer in range(2) for kind in ("mlp_in", "mlp_out"))


def test_a_value_is_a_name_and_fields() -> None:
    assert parse_value("topk:k=8", NONLINEARITIES) == TopK(k=8)
    assert parse_value("jumprelu", NONLINEARITIES) == JumpReLU()
    assert parse_value("l0:coefficient=2,target=40", LOSSES) == L0(coefficient=2.0, target=40.0)
    assert parse_value("matryoshka:prefixes=16/32", LOSSES) == Matryoshka(prefixes=(16, 32))


def test_a_misspelt_name_or_field_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotRegistered, match="topk"):
        parse_value("topkk:k=8", NONLINEARITIES)
    with pytest.raises(ConfigError, match='Did you mean "coefficient"'):
        parse_value("l1:coeficient=8", LOSSES)
    with pytest.raises(ConfigError, match="no value"):
        parse_value("l1:coefficient", LOSSES)


def test_without_options_it_is_a_topk_sae_of_the_first_site() -> None:
    config = train_config(Recipe(k=5), sites=(Site("resid_post", 3),))
    assert (config.kind, config.reads, config.writes, config.nonlinearity) == ("sae", (Site("resid_post", 3),), (), TopK(k=5))


def test_sets_read_and_write_every_layers_mlp_by_default() -> None:
    config = train_config(Recipe(), Architecture(kind="cross-layer", nonlinearity="batchtopk:k=4", losses=("l1:coefficient=1",)), sites=MLPS)
    assert [str(site) for site in config.reads] == ["L0.mlp_in", "L1.mlp_in"]
    assert [str(site) for site in config.writes] == ["L0.mlp_out", "L1.mlp_out"]
    assert config.nonlinearity == BatchTopK(k=4)
    assert config.losses == (L1(coefficient=1.0),)


def test_a_transcoder_writes_what_the_layers_mlp_writes() -> None:
    config = train_config(Recipe(), Architecture(kind="transcoder", reads=("L1.mlp_in",), skip=True), sites=MLPS)
    assert config.writes == (Site("mlp_out", 1),)
    assert config.build.skip


def test_layers_without_mlp_sites_say_what_to_harvest() -> None:
    with pytest.raises(ConfigError, match="mlp_in and mlp_out"):
        train_config(Recipe(), Architecture(kind="layers"), sites=(Site("resid_post", 0),))
