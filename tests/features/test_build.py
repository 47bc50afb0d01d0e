"""Building: resumable to the byte, refuses what does not belong together."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import microtome.features.build as building
from microtome.artifacts import MANIFEST, Workspace, read_manifest
from microtome.errors import ArtifactDamaged, ArtifactMissing, ConfigError, ShapeMismatch
from microtome.features import FeatureIndex, IndexConfig, build_index
from microtome.models import tiny
from tests.features.small_store import CONFIG, Made


class Killed(BaseException):
    """Stands for the process being killed."""


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".lock"}


@pytest.mark.parametrize("during", ["encode the activations", "invert the postings", "describe the features"])
def test_a_killed_build_resumes_to_the_same_bytes(made: Made, index: FeatureIndex, *, tmp_path: Path, during: str) -> None:
    def kill(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        if step == during:
            raise Killed

    out = tmp_path / "indexes" / "killed"
    with pytest.raises(Killed):
        build_index(made.dictionary, made.shards, corpus=made.corpus, model=made.model, out=out, config=CONFIG, progress=kill)
    assert not (out / MANIFEST).exists()
    build_index(made.dictionary, made.shards, corpus=made.corpus, model=made.model, out=out, config=CONFIG, workspace=made.workspace)
    assert _bytes(out) == _bytes(index.path)


def test_finished_shards_are_not_encoded_again(made: Made, tmp_path: Path, *, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        raise Killed

    out, encoded = tmp_path / "indexes" / "again", list[str]()
    with pytest.raises(Killed):
        build_index(made.dictionary, made.shards, corpus=made.corpus, model=made.model, out=out, config=CONFIG, progress=stop)
    real = building.write_forward
    monkeypatch.setattr(building, "write_forward", lambda path, *args, **options: (encoded.append(path.name), real(path, *args, **options)))
    build_index(made.dictionary, made.shards, corpus=made.corpus, model=made.model, out=out, config=CONFIG, workspace=made.workspace)
    assert len(encoded) == len(made.shards.ranges) - 1


def test_building_again_opens_what_is_there(made: Made, index: FeatureIndex) -> None:
    assert made.build("small").id == index.id


def test_row_groups_are_small(index: FeatureIndex) -> None:
    file = pq.ParquetFile(index.path / "features.parquet")
    assert file.metadata.num_rows == index.n_features
    assert all(file.metadata.row_group(i).num_rows <= 4096 for i in range(file.metadata.num_row_groups))


def test_another_model_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ShapeMismatch, match="of another model"):
        build_index(made.dictionary, made.shards, corpus=made.corpus, model=tiny("gpt2"), out=tmp_path / "x")


def test_activations_can_be_stored_in_full(made: Made) -> None:
    wide = made.build("wide", IndexConfig(values="float32", top_examples=2, strata=2, stratum_examples=1))
    assert wide.store.postings.nnz >= made.build("small").store.postings.nnz, "nothing rounds to zero"
    assert wide.card(0).statistics.max == pytest.approx(made.build("small").card(0).statistics.max, rel=1e-3)


def test_packed_postings_give_the_same_answers(made: Made, index: FeatureIndex) -> None:
    packed = made.build("packed", replace(CONFIG, packed=True))
    assert (packed.path / "features.parquet").read_bytes() == (index.path / "features.parquet").read_bytes()
    assert {file.name for file in packed.path.iterdir()} == {file.name for file in index.path.iterdir()}
    for feature in range(index.n_features):
        assert packed.examples(feature) == index.examples(feature)
        assert packed.coactive(feature, at_least=1) == index.coactive(feature, at_least=1)
    assert packed.document(1).pieces == index.document(1).pieces
    assert "packed" not in read_manifest(index.path).config, "an index of before packing is the same work"


def test_an_index_without_its_corpus_says_which_one_it_wants(index: FeatureIndex, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match=r"no corpus with the id"):
        FeatureIndex.open(index.path, Workspace(tmp_path))


def test_a_flipped_bit_is_found(made: Made, tmp_path: Path) -> None:
    out = made.workspace.place("index", "flipped")
    made.build("flipped")
    file = out / "inverted.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ArtifactDamaged, match=r"inverted\.safetensors is damaged"):
        FeatureIndex.open(out)
    file.write_bytes(bytes(content[:-1]))
    with pytest.raises(ArtifactDamaged):
        FeatureIndex.open(out)


@pytest.mark.parametrize("fields", [{"strata": 0}, {"fire_share": 1.0}, {"window_after": -1}])
def test_unfit_configs_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        IndexConfig(**fields)  # type: ignore[arg-type]  # wrong on purpose
