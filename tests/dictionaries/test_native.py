"""The native format: what is saved is loaded, and what was damaged or is foreign is named."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from microtome.artifacts import Draft
from microtome.dictionaries import SAE, load_dictionary, read_weights, save
from microtome.errors import ArtifactDamaged, ArtifactMissing, DictionaryInvalid
from tests.dictionaries.test_sae import rows, sae_of


def saved(folder: Path, sae: SAE) -> Path:
    with Draft.open(folder, "dictionary", config={}, inputs={}) as draft:
        save(sae, draft)
        draft.finish()
    return folder


def test_a_dictionary_survives_the_disk(tmp_path: Path) -> None:
    sae, x = sae_of(), rows()
    loaded = load_dictionary(saved(tmp_path / "d", sae))
    assert (loaded.reads, loaded.writes, loaded.nonlinearity, loaded.input_scale) == (sae.reads, sae.writes, sae.nonlinearity, sae.input_scale)
    assert torch.equal(loaded.reconstruct(x), sae.reconstruct(x))


def test_the_same_dictionary_has_the_same_bytes(tmp_path: Path) -> None:
    first, second = saved(tmp_path / "a", sae_of()), saved(tmp_path / "b", sae_of())
    assert (first / "weights.safetensors").read_bytes() == (second / "weights.safetensors").read_bytes()


def test_a_missing_a_truncated_and_a_flipped_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing):
        load_dictionary(tmp_path / "nothing")
    folder = saved(tmp_path / "d", sae_of())
    file = folder / "weights.safetensors"
    whole = bytearray(file.read_bytes())
    file.write_bytes(whole[:-10])
    with pytest.raises(ArtifactDamaged):
        load_dictionary(folder)
    whole[-3] ^= 1
    file.write_bytes(whole)
    with pytest.raises(ArtifactDamaged):
        load_dictionary(folder)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "d", sae_of())
    tensors = load_file(folder / "weights.safetensors")
    header = {"kind": "sae", "site": "L3.resid_post", "nonlinearity": {"name": "topk", "k": 5}, "input_scale": 0.25, "d_dict": 40, "d_in": 12}

    def written(changes: Mapping[str, object], weights: dict[str, torch.Tensor] = tensors) -> Path:
        save_file(weights, tmp_path / "w.safetensors", metadata={"dictionary": json.dumps({**header, **changes})})
        return tmp_path / "w.safetensors"

    read_weights(written({}))
    for changes in ({"kind": "probe"}, {"d_dict": 41}, {"extra": 1}, {"input_scale": 0.0}):
        with pytest.raises(DictionaryInvalid):
            read_weights(written(changes))
    with pytest.raises(DictionaryInvalid, match="wrong shape"):
        read_weights(written({}, {**tensors, "W_dec": tensors["W_dec"].T.contiguous()}))
    save_file(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(DictionaryInvalid, match="not a microtome dictionary"):
        read_weights(tmp_path / "bare.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors at all")
    with pytest.raises(DictionaryInvalid, match="not a microtome dictionary"):
        read_weights(tmp_path / "text.safetensors")
