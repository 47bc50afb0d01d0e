"""`microtome index` of a set, and `microtome show … --links`: the same figures as the Python calls, and text of others is not markup."""

from pathlib import Path

import pytest

from microtome.artifacts import Workspace
from microtome.config import to_dict
from microtome.features import FeatureIndex
from tests.cli.calls import call
from tests.features.small_set import D, make_set
from tests.features.small_store import make


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an index of a set of transcoders, made by the command."""
    folder = tmp_path_factory.mktemp("links")
    name = make_set(make(folder)).dictionary.name
    indexed = call("index", name, "--model", "tiny:llama@0", "--name", "set", "--workspace", str(folder), "--json")
    assert indexed.code == 0, indexed.err
    assert indexed.json["overview"]["counts"]["features"] == 3 * D
    return folder


def test_a_feature_of_a_set_is_shown_with_its_links(workspace: Path) -> None:
    index = FeatureIndex.open(Workspace(workspace).find("index", "set"), workspace)
    shown = call("show", "set", "3", "--site", "L1.mlp_in", "--links", "--limit", "4", "--workspace", str(workspace), "--json")
    assert shown.code == 0, shown.err
    assert shown.json["card"]["site"] == "L1.mlp_in"
    assert shown.json["downstream"]["promotes"] == to_dict(index.downstream(D + 3, limit=4))["promotes"]
    assert shown.json["upstream"]["suppresses"] == to_dict(index.upstream(D + 3, limit=4))["suppresses"]
    printed = call("show", "set", "3", "--site", "L1.mlp_in", "--silenced", "--workspace", str(workspace))
    for words in ("downstream over 24 features by TWERA (norm's scale averaged under the target)", "promotes", "is suppressed by", "keeps silent"):
        assert words in " ".join(printed.out.split()), words


def test_a_site_that_the_index_does_not_read_is_named(workspace: Path) -> None:
    shown = call("show", "set", "3", "--site", "L9.mlp_in", "--workspace", str(workspace))
    assert (shown.code, "L2.mlp_in" in shown.err) == (2, True)


def test_a_dictionary_that_names_no_model_asks_for_one(workspace: Path) -> None:
    name = next(each for each in Workspace(workspace).names("dictionary") if each.startswith("layers"))
    asked = call("index", name, "--workspace", str(workspace))
    assert asked.code == 2
    assert "--model" in asked.err
