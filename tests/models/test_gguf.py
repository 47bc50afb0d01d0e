import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

import microtome.models.gguf
from microtome.errors import ModelDamaged, ModelUnsupported
from microtome.models import Model, load, tiny
from microtome.models.gguf import FACTS, converted

_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(model: Model, file: Path, *, architecture: str = "llama", without: str = "") -> None:
    """A Llama as llama.cpp keeps it: its own names, and the rows of q and k in the order of its rotary embedding."""
    config, backend = model.hf.config, json.loads(model.tokenizer._backend.to_str())
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_block_count(model.n_layers)
    writer.add_context_length(model.max_context)
    writer.add_embedding_length(model.d_model)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(model.n_vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    pieces = [piece or "" for piece in model.tokenizer._pieces] + [f"[PAD{i}]" for i in range(len(model.tokenizer), model.n_vocab)]
    special = model.tokenizer.special_ids
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3 if i in special else 1 for i in range(len(pieces))])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(model.tokenizer.bos or 0)
    writer.add_eos_token_id(model.tokenizer.eos or 0)
    for name, weight in model.hf.state_dict().items():
        if name == without:
            continue
        writer.add_tensor(_gguf_name(name), _gguf_order(name, weight.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{_NAMES[part]}.weight"


def _gguf_order(name: str, weight: np.ndarray) -> np.ndarray:
    heads = 4 if "q_proj" in name else 2 if "k_proj" in name else 0
    if not heads:
        return weight
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture
def llama() -> Model:
    return tiny("llama")


@pytest.fixture
def file(llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MICROTOME_CACHE", str(tmp_path / "cache"))
    write_gguf(llama, tmp_path / "small.gguf")
    return tmp_path / "small.gguf"


def test_a_converted_model_is_the_model(llama: Model, file: Path):
    tokens = torch.arange(10, 40)[None]
    loaded = load(str(file))
    torch.testing.assert_close(loaded.logits(tokens), llama.logits(tokens), atol=1e-5, rtol=1e-5)
    text = "hello the world of <|im_end|> 2024"
    assert loaded.tokenizer.encode(text) == llama.tokenizer.encode(text)
    assert loaded.quantised is None


def test_the_digit_splitting_that_the_conversion_loses_is_back(file: Path):
    loaded = load(str(file))
    split = loaded.tokenizer._backend.pre_tokenizer.pre_tokenize_str("in 2024")
    assert [piece for piece, _ in split] == ["in", "Ġ", "2", "0", "2", "4"]


def test_a_second_load_converts_nothing(file: Path, monkeypatch: pytest.MonkeyPatch):
    folder = converted(file)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert converted(file) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made


def test_a_damaged_copy_in_the_cache_is_made_again(file: Path):
    folder = converted(file)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:1000])
    assert converted(file) == folder
    assert (folder / "model.safetensors").read_bytes() == whole


def test_a_flipped_bit_in_the_cache_is_noticed_and_the_model_made_again(file: Path):
    weights = converted(file) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    converted(file)
    assert weights.read_bytes() == whole


def test_a_file_that_was_only_touched_is_hashed_once_and_kept(file: Path, monkeypatch: pytest.MonkeyPatch):
    weights = converted(file) / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    converted(file)
    assert weights.stat().st_mtime_ns == 1
    monkeypatch.setattr(microtome.models.gguf, "sha256_of", lambda _: pytest.fail("hashed again"))
    converted(file)


def test_what_a_killed_conversion_left_is_swept(file: Path):
    folder = converted(file)
    stale, other = folder.parent / f".making-{folder.name}-dead", folder.parent / ".making-other-v2-alive"
    for left in (stale, other):
        (left / "model").mkdir(parents=True)
    (folder / "model.safetensors").unlink()
    converted(file)
    assert not stale.exists()
    assert other.exists()  # another model's, whose lock we do not hold


def test_the_packages_that_help_are_left_as_they_were(file: Path):
    from transformers import modeling_gguf_pytorch_utils as loader

    before = (gguf.GGUFReader, gguf.get_tensor_name_map, loader.tqdm)
    converted(file)
    assert (gguf.GGUFReader, gguf.get_tensor_name_map, loader.tqdm) == before
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelDamaged):
        converted(file)
    assert (gguf.GGUFReader, gguf.get_tensor_name_map, loader.tqdm) == before


def test_other_threads_get_the_packages_functions_as_they_were(file: Path):
    with microtome.models.gguf._parsed_once(), ThreadPoolExecutor(1) as pool:
        assert gguf.GGUFReader(str(file)) is gguf.GGUFReader(str(file))
        elsewhere = [pool.submit(gguf.GGUFReader, str(file)).result() for _ in range(2)]
        assert elsewhere[0] is not elsewhere[1]


def test_two_conversions_at_once_leave_the_packages_as_they_were(llama: Model, file: Path, tmp_path: Path):
    before, other = (gguf.GGUFReader, gguf.get_tensor_name_map), tmp_path / "other.gguf"
    write_gguf(tiny("llama", seed=1), other)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(converted, [file, other]))
    assert folders[0] != folders[1]
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_named_and_leaves_nothing_in_the_cache(file: Path, tmp_path: Path, share: float):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelDamaged, match=r"small\.gguf"):
        load(str(file))
    assert [entry.name for entry in (tmp_path / "cache" / "models").iterdir() if entry.suffix != ".lock"] == []


def test_a_file_without_all_weights_is_refused_not_filled_with_random_numbers(llama: Model, file: Path):
    write_gguf(llama, file, without="model.layers.1.mlp.up_proj.weight")
    with pytest.raises(ModelDamaged, match="up_proj"):
        load(str(file))


def test_what_is_no_gguf_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MICROTOME_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" + bytes(5000))
    with pytest.raises(ModelDamaged):
        load(str(tmp_path / "x.gguf"))


def test_an_unknown_architecture_is_refused(llama: Model, file: Path):
    write_gguf(llama, file, architecture="rwkv7")
    with pytest.raises(ModelUnsupported, match=r"small\.gguf"):
        load(str(file))


def test_progress_is_told_to_the_end(file: Path):
    told: list[Any] = []
    converted(file, progress=lambda step, done, total, **_: told.append((step, done, total)))
    assert told[0] == ("convert small.gguf", 0, 1)
    assert told[-1] == ("convert small.gguf", 1, 1)


def test_two_that_want_the_same_file_at_once_make_one_copy(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The lock is a file's, so that two threads that open it wait for each other as two processes do."""
    made: list[Path] = []
    convert = microtome.models.gguf._convert

    def counted(source: Path, folder: Path, progress: Any) -> None:
        made.append(folder)
        convert(source, folder, progress)

    monkeypatch.setattr(microtome.models.gguf, "_convert", counted)
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(converted, [file, file]))
    assert len(folders) == len(made) == 1
    kept = [entry for entry in (tmp_path / "cache" / "models").iterdir() if entry.suffix != ".lock"]
    assert kept == list(folders)
    assert json.loads((kept[0] / FACTS).read_text())["quantised"] is None


def test_an_interrupted_conversion_leaves_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(microtome.models.gguf, "_mend_tokenizer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        converted(file)
    assert [entry.suffix for entry in (tmp_path / "cache" / "models").iterdir()] == [".lock"]
