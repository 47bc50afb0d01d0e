"""The native format: what is saved is loaded, and what was damaged or is foreign is named."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from microtome.artifacts import Draft
from microtome.dictionaries import (
    SAE,
    Dictionary,
    DictionarySet,
    MeanDictionary,
    SparseCodes,
    load_any,
    load_dictionary,
    read_any,
    read_weights,
    save,
    write_weights,
)
from microtome.errors import ArtifactDamaged, ArtifactMissing, DictionaryInvalid, MicrotomeError, SiteNotFound
from microtome.models import Site
from tests.dictionaries.kinds import KINDS, NONLINEARITIES, READ, WRITES, draw, rows, sae_of, transcoder_of


def saved(folder: Path, dictionary: Dictionary | DictionarySet) -> Path:
    with Draft.open(folder, "dictionary", config={}, inputs={}) as draft:
        save(dictionary, draft)
        draft.finish()
    return folder


def pair() -> DictionarySet:
    """Two source layers of a cross-layer transcoder: the first writes both layers."""
    first, second = transcoder_of("relu", writes=3), transcoder_of("jumprelu")
    second.reads, second.writes = Site("mlp_in", 2), (Site("mlp_out", 2),)
    return DictionarySet((second, first), kind="cross-layer")


def rewritten(file: Path, change: Callable[[dict[str, Any]], None], *, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
    """The file with its header changed."""
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["dictionary"])
    change(header)
    other = file.with_name("changed.safetensors")
    save_file(dict(tensors or load_file(file)), other, metadata={"dictionary": json.dumps(header)})
    return other


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_the_disk(tmp_path: Path, kind: str) -> None:
    dictionary, x = KINDS[kind]("gated"), rows()
    loaded = load_dictionary(saved(tmp_path / "d", dictionary))
    assert type(loaded) is type(dictionary)
    assert (loaded.inputs, loaded.writes, loaded.pooling) == (dictionary.inputs, dictionary.writes, dictionary.pooling)
    assert torch.equal(loaded.reconstruct(x), dictionary.reconstruct(x))


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_every_nonlinearity_survives_the_disk(tmp_path: Path, name: str) -> None:
    sae = sae_of(name, centred=False, pooling="turn")
    loaded = load_dictionary(saved(tmp_path / "d", sae))
    assert isinstance(loaded, SAE)
    assert (loaded.nonlinearity, loaded.centred, loaded.pooling) == (sae.nonlinearity, False, "turn")
    for tensor, weight in sae.weights().items():
        assert torch.equal(loaded.weights()[tensor], weight)


def test_a_set_survives_the_disk_and_a_member_is_read_alone(tmp_path: Path) -> None:
    folder, x = saved(tmp_path / "d", pair()), {READ: rows(), Site("mlp_in", 2): rows(30).flip(0)}
    loaded = load_any(folder)
    assert isinstance(loaded, DictionarySet)
    assert (loaded.kind, loaded.sites, loaded.writes) == ("cross-layer", pair().sites, WRITES)
    for site, made in pair().reconstruct(x).items():
        assert torch.equal(loaded.reconstruct(x)[site], made)
    member = load_dictionary(folder, member=READ)
    assert torch.equal(member.reconstruct(x[READ]), pair().member(READ).reconstruct(x[READ]))
    with pytest.raises(SiteNotFound, match="set of 2"):
        load_dictionary(folder)
    with pytest.raises(SiteNotFound, match="no dictionary of"):
        load_dictionary(folder, member=Site("mlp_in", 3))


def test_the_mean_survives_the_disk(tmp_path: Path) -> None:
    mean = MeanDictionary(draw(10, seed=1), site=WRITES[0], reads=READ, d_in=12, pooling="last")
    loaded = load_dictionary(saved(tmp_path / "d", mean))
    assert (loaded.reads, loaded.writes, loaded.d_in, loaded.pooling) == (READ, WRITES[:1], 12, "last")
    assert torch.equal(loaded.reconstruct(rows()), mean.reconstruct(rows()))


def test_the_same_dictionary_has_the_same_bytes(tmp_path: Path) -> None:
    first, second = saved(tmp_path / "a", sae_of()), saved(tmp_path / "b", sae_of())
    assert (first / "weights.safetensors").read_bytes() == (second / "weights.safetensors").read_bytes()


def test_a_file_of_the_first_release_is_read(tmp_path: Path) -> None:
    sae = sae_of()
    header = {"kind": "sae", "site": "L3.resid_post", "nonlinearity": {"name": "topk", "k": 5}, "input_scale": 0.25, "d_dict": 40, "d_in": 12}
    save_file(sae.weights(), tmp_path / "w.safetensors", metadata={"dictionary": json.dumps(header)})
    loaded = read_weights(tmp_path / "w.safetensors")
    assert isinstance(loaded, SAE)
    assert (loaded.centred, loaded.pooling) == (True, "token")
    assert torch.equal(loaded.reconstruct(rows()), sae.reconstruct(rows()))


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


WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "an unknown key": (lambda header: header.update(threshhold=1.0), "threshhold"),
    "a missing key": (lambda header: header.pop("pooling"), "pooling"),
    "a key of the wrong type": (lambda header: header.update(input_scale="small"), "input_scale"),
    "an unknown kind": (lambda header: header.update(kind="probe"), "probe"),
    "no kind": (lambda header: header.pop("kind"), "kind"),
    "a later format": (lambda header: header.update(format=3), "format 3"),
    "an unknown nonlinearity": (lambda header: header.update(nonlinearity={"name": "topq", "k": 3}), "topk"),
    "an unknown field of it": (lambda header: header.update(nonlinearity={"name": "topk", "K": 3}), '"k"'),
    "an unknown site": (lambda header: header.update(reads="L1.mlp_inn"), "mlp_in"),
    "another number of features": (lambda header: header.update(d_dict=41), "41"),
    "another width": (lambda header: header.update(d_out=11), "11"),
    "an unknown pooling": (lambda header: header.update(pooling="page"), "page"),
    "a scale of zero": (lambda header: header.update(output_scale=0.0), "output_scale"),
    "more writes than decoders": (lambda header: header.update(writes=[str(site) for site in WRITES]), "W_dec|b_dec"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_header_that_is_wrong_is_named(tmp_path: Path, case: str) -> None:
    dictionary = transcoder_of(writes=2) if "writes" in case else transcoder_of()
    write_weights(dictionary, tmp_path / "w.safetensors")
    change, said = WRONG[case]
    with pytest.raises(DictionaryInvalid) as caught:
        read_any(rewritten(tmp_path / "w.safetensors", change))
    assert any(part in str(caught.value) for part in said.split("|")), str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_are_wrong_are_named(tmp_path: Path, kind: str) -> None:
    dictionary = KINDS[kind]("jumprelu")
    write_weights(dictionary, tmp_path / "w.safetensors")
    tensors = load_file(tmp_path / "w.safetensors")

    def refused(changed: dict[str, torch.Tensor], match: str) -> None:
        with pytest.raises(DictionaryInvalid, match=match):
            read_weights(rewritten(tmp_path / "w.safetensors", lambda header: None, tensors=changed))

    for name in tensors:
        if name != "W_skip":
            refused({each: tensor for each, tensor in tensors.items() if each != name}, "tensors are not those")
        poisoned = tensors[name].clone()
        poisoned.view(-1)[0] = torch.nan
        refused({**tensors, name: poisoned}, "not finite")
        refused({**tensors, name: tensors[name][..., :-1].contiguous()}, "wrong shape|do not add up|not a microtome dictionary")
        refused({**tensors, name: tensors[name].long()}, "real numbers")
    refused({**tensors, "W_gate": tensors["W_enc"].clone()}, "tensors are not those")


def test_a_set_with_a_stranger_or_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    write_weights(pair(), file)
    tensors = load_file(file)
    with pytest.raises(DictionaryInvalid, match="not a microtome dictionary") as caught:
        read_any(rewritten(file, lambda header: None, tensors={**tensors, "L9.mlp_in/W_enc": draw(2, 2, seed=0)}))
    assert "L9.mlp_in" in str(caught.value)
    with pytest.raises(DictionaryInvalid):
        read_any(rewritten(file, lambda header: header.update(set="ring")))
    with pytest.raises(DictionaryInvalid):
        read_any(rewritten(file, lambda header: header["members"].append({"kind": "sae"})))
    with pytest.raises(MicrotomeError, match="tensors are not those"):
        read_any(rewritten(file, lambda header: None, tensors={name: tensor for name, tensor in tensors.items() if "L2" not in name}))


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    save_file(sae_of().weights(), tmp_path / "bare.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors at all")
    save_file(sae_of().weights(), tmp_path / "list.safetensors", metadata={"dictionary": "[1, 2]"})
    for name in ("bare", "text", "list"):
        with pytest.raises(DictionaryInvalid, match="not a microtome dictionary"):
            read_weights(tmp_path / f"{name}.safetensors")


def test_a_kind_of_another_package_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DictionaryInvalid, match="does not know this kind"):
        write_weights(Guest(), tmp_path / "w.safetensors")


class Guest(Dictionary):
    """A dictionary that the format has never heard of."""

    reads, writes, pooling, d_in, d_out, d_dict = READ, (READ,), "token", 2, 2, 1

    def encode(self, x: torch.Tensor) -> SparseCodes:
        return SparseCodes(torch.zeros(len(x), 1, dtype=torch.int64), torch.zeros(len(x), 1), 1)

    def decode(self, codes: SparseCodes, *, write: Site | None = None) -> torch.Tensor:
        return torch.zeros(codes.rows, 2)

    def directions(self, *, write: Site | None = None) -> torch.Tensor:
        return torch.zeros(1, 2)

    def encoder_directions(self) -> torch.Tensor:
        return torch.zeros(1, 2)

    def to(self, device: torch.device | str) -> "Guest":
        return self


def test_a_tied_dictionary_whose_matrices_are_one_tensor_is_written(tmp_path: Path) -> None:
    sae = sae_of("relu")
    tied = sae.with_weights({**sae.weights(), "W_dec": sae.W_enc})
    write_weights(tied, tmp_path / "weights.safetensors")
    assert torch.equal(read_weights(tmp_path / "weights.safetensors").reconstruct(rows()), tied.reconstruct(rows()))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DictionaryInvalid):
        read_weights(tmp_path / "weights.safetensors")
