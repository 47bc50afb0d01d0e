"""Every way in which a foreign file can be wrong has its named error, with what was got, what was wanted and what to do."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from microtome.artifacts import MANIFEST
from microtome.dictionaries import load_any, load_dictionary
from microtome.errors import (
    ArtifactMissing,
    ConfigError,
    DictionaryInvalid,
    FormatUnknown,
    FormatUnsupported,
    MicrotomeError,
    PickleRefused,
    SiteNotFound,
)
from microtome.models import Site
from microtome.shapes import Tensor

FIXTURES = Path(__file__).parent / "fixtures"
GEMMA = "gemma_scope/gemma-scope-2b-pt-res/layer_2/width_16k/average_l0_9"
GEMMA_2 = "gemma_scope_2/gemma-scope-2-1b-pt/resid_post/layer_2_width_16k_l0_small"
LLAMA = "llama_scope/Llama3_1-8B-Base-L2R-8x"
SAFETENSORS = {
    "saelens/standard": "sae_weights.safetensors",
    "sparsify/sae/layers.2": "sae.safetensors",
    "circuit_tracer/layers": "layer_1.safetensors",
    "circuit_tracer/cross_layer": "W_dec_0.safetensors",
    GEMMA_2: "params.safetensors",
    LLAMA: "checkpoints/final.safetensors",
}
Tensors = dict[str, Tensor]


def copied(case: str, to: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / case, to / Path(case).name))


def refusal(kind: type[MicrotomeError], folder: Path, **options: Any) -> MicrotomeError:
    """The error of this kind that opening `folder` raises, all four parts of it there."""
    with pytest.raises(kind) as caught:
        load_any(folder, **options)
    error = caught.value
    assert error.what
    assert error.got is not None
    assert error.wanted is not None
    assert error.do
    return error


def without(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != biggest(tensors)}


def stranger(tensors: Tensors) -> Tensors:
    return {**tensors, "W_encoder": torch.zeros(2)}


def narrower(tensors: Tensors) -> Tensors:
    return {**tensors, biggest(tensors): tensors[biggest(tensors)][:, :-1].contiguous()}


def flat(tensors: Tensors) -> Tensors:
    return {**tensors, biggest(tensors): tensors[biggest(tensors)].flatten()}


def with_nan(tensors: Tensors) -> Tensors:
    return {**tensors, biggest(tensors): torch.full_like(tensors[biggest(tensors)], float("nan"))}


def biggest(tensors: Tensors) -> str:
    return max(tensors, key=lambda name: tensors[name].numel())


DAMAGE: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "missing": (without, "lacks the tensor"),
    "unknown": (stranger, "unknown key"),
    "shape": (narrower, "wrong shape"),
    "rank": (flat, "wrong shape"),
    "nan": (with_nan, "not finite"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("case", SAFETENSORS)
def test_damaged_tensors_are_named(case: str, damage: str, tmp_path: Path) -> None:
    folder = copied(case, tmp_path)
    file = folder / SAFETENSORS[case]
    change, message = DAMAGE[damage]
    save_file(change(load_file(file)), file)
    assert message in refusal(DictionaryInvalid, folder).what


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_tensors_are_named_in_pickles_and_archives_too(damage: str, tmp_path: Path) -> None:
    change, message = DAMAGE[damage]
    folder = copied("dictionary_learning/jumprelu", tmp_path)
    torch.save(change(torch.load(folder / "ae.pt", weights_only=True)), folder / "ae.pt")
    assert message in refusal(DictionaryInvalid, folder).what
    gemma = copied(GEMMA, tmp_path)
    with np.load(gemma / "params.npz") as opened:
        arrays = {name: torch.from_numpy(opened[name]) for name in opened.files}
    changed: dict[str, Any] = {name: tensor.numpy() for name, tensor in change(arrays).items()}
    np.savez(gemma / "params.npz", **changed)
    assert message in refusal(DictionaryInvalid, gemma, reads="L2.resid_post").what


@pytest.mark.parametrize("case", [*SAFETENSORS, "dictionary_learning/topk", GEMMA])
def test_a_truncated_file_is_named(case: str, tmp_path: Path) -> None:
    folder = copied(case, tmp_path)
    file = folder / SAFETENSORS.get(case, "ae.pt" if "learning" in case else "params.npz")
    for part in (0, 40, file.stat().st_size // 2, file.stat().st_size - 3):
        file.write_bytes(file.read_bytes()[:part])
        error = refusal(DictionaryInvalid if "learning" not in case else MicrotomeError, folder)
        assert str(file) in error.what
        shutil.copy(FIXTURES / case / file.relative_to(folder), file)


class Malice:
    """What a pickle may call when it is opened without care."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (Path("opened-by-a-pickle"),))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = copied("dictionary_learning/topk", tmp_path)
    for name in ("zip", "bare"):
        if name == "zip":
            torch.save({"encoder.weight": Malice()}, folder / "ae.pt")
        else:
            (folder / "ae.pt").write_bytes(pickle.dumps(Malice(), protocol=2))
        refusal(PickleRefused, folder)
    gemma = copied(GEMMA, tmp_path)
    np.savez(gemma / "params.npz", W_enc=np.array([Malice()], dtype=object))
    refusal(PickleRefused, gemma, reads="L2.resid_post")
    assert not (tmp_path / "opened-by-a-pickle").exists()
    torch.save([torch.zeros(2)], folder / "ae.pt")
    refusal(DictionaryInvalid, folder)


def rewritten(folder: Path, name: str, changes: dict[str, Any]) -> None:
    """Change keys of a config; a change to None takes the key away."""
    file = folder / name
    stored = yaml.safe_load(file.read_text()) if name.endswith(".yaml") else json.loads(file.read_text())
    kept = {key: value for key, value in {**stored, **changes}.items() if value is not None}
    file.write_text(yaml.safe_dump(kept) if name.endswith(".yaml") else json.dumps(kept))


CONFIGS: list[tuple[str, str, dict[str, Any], type[MicrotomeError]]] = [
    ("saelens/standard", "cfg.json", {"apply_b_dec_to_inptu": True}, DictionaryInvalid),
    ("saelens/standard", "cfg.json", {"architecture": None}, DictionaryInvalid),
    ("saelens/topk", "cfg.json", {"k": "four"}, DictionaryInvalid),
    ("saelens/topk", "cfg.json", {"k": True}, DictionaryInvalid),
    ("saelens/standard", "cfg.json", {"architecture": "temporal"}, FormatUnsupported),
    ("saelens/standard", "cfg.json", {"normalize_activations": "layer_norm"}, FormatUnsupported),
    ("saelens/standard", "cfg.json", {"normalize_activations": "expected_average_only_in"}, FormatUnsupported),
    ("saelens/standard", "cfg.json", {"metadata": {"hook_name": "blocks.2.attn.hook_z", "hook_head_index": 3}}, FormatUnsupported),
    ("saelens/old_standard", "cfg.json", {"activation_fn_str": "tanh-relu"}, FormatUnsupported),
    ("saelens/old_standard", "cfg.json", {"normalize_activations": True}, FormatUnsupported),
    ("sparsify/sae/layers.2", "cfg.json", {"num_latent": 16}, DictionaryInvalid),
    ("sparsify/sae/layers.2", "cfg.json", {"num_latents": 17}, DictionaryInvalid),
    ("sparsify/sae/layers.2", "cfg.json", {"d_in": None}, DictionaryInvalid),
    ("sparsify/sae/layers.2", "cfg.json", {"activation": "groupmax"}, FormatUnsupported),
    ("dictionary_learning/topk", "config.json", {"trainer": None}, DictionaryInvalid),
    ("dictionary_learning/topk", "config.json", {"trainer": {"dict_class": "IdentityDict"}}, FormatUnsupported),
    ("dictionary_learning/topk", "config.json", {"trainer": {"dict_class": "AutoEncoderTopK", "layer": 2, "k": 5}}, DictionaryInvalid),
    ("dictionary_learning/topk", "config.json", {"trainer": {"dict_class": "AutoEncoderTopK"}}, DictionaryInvalid),
    ("circuit_tracer/layers", "config.yaml", {"model_kind": "crosscoder"}, FormatUnsupported),
    ("circuit_tracer/layers", "config.yaml", {"feature_inptu_hook": "x"}, DictionaryInvalid),
    ("circuit_tracer/layers", "config.yaml", {"feature_input_hook": None}, DictionaryInvalid),
    (GEMMA_2, "config.json", {"architecture": "topk"}, FormatUnsupported),
    (LLAMA, "hyperparams.json", {"act_fn": "gelu"}, FormatUnsupported),
    (LLAMA, "hyperparams.json", {"norm_activation": "token-wise"}, FormatUnsupported),
    (LLAMA, "hyperparams.json", {"jump_relu_threshold": None}, DictionaryInvalid),
    (LLAMA, "hyperparams.json", {"dataset_average_activation_norm": {"in": 0, "out": 1.0}}, DictionaryInvalid),
    (LLAMA, "hyperparams.json", {"dataset_average_activation_norm": {"in": 1.0, "out": -2.0}}, DictionaryInvalid),
    ("circuit_tracer/layers", "config.yaml", {"transcoders": [{"id": 0, "layer": 0}]}, DictionaryInvalid),
]


@pytest.mark.parametrize(("case", "name", "changes", "kind"), CONFIGS, ids=lambda value: str(value)[:40])
def test_configs_are_read_strictly(case: str, name: str, changes: dict[str, Any], kind: type[MicrotomeError], tmp_path: Path) -> None:  # noqa: PLR0917  # a table
    folder = copied(case, tmp_path)
    rewritten(folder, name, changes)
    refusal(kind, folder)


def test_a_misspelt_key_is_answered_with_the_right_one(tmp_path: Path) -> None:
    folder = copied("saelens/standard", tmp_path)
    rewritten(folder, "cfg.json", {"apply_b_dec_to_inptu": True})
    assert "apply_b_dec_to_input" in refusal(DictionaryInvalid, folder).do


def test_a_config_that_is_no_json_or_yaml_is_named(tmp_path: Path) -> None:
    for case, name in (("saelens/standard", "cfg.json"), ("circuit_tracer/layers", "config.yaml")):
        folder = copied(case, tmp_path)
        for text in ("{", "[1, 2]", ""):
            (folder / name).write_text(text)
            refusal(DictionaryInvalid, folder)


def test_a_scale_that_the_file_calls_for_is_taken_from_its_checkpoint_or_from_the_caller(tmp_path: Path) -> None:
    """As SAELens folds it: W_enc times s, W_dec and b_dec divided by it."""
    folder = copied("saelens/standard", tmp_path)
    rewritten(folder, "cfg.json", {"normalize_activations": "expected_average_only_in"})
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    wanted = load_dictionary(FIXTURES / "saelens" / "standard").reconstruct(x * 0.25) / 0.25
    torch.testing.assert_close(load_dictionary(folder, input_scale=0.25).reconstruct(x), wanted)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.25}))
    torch.testing.assert_close(load_dictionary(folder).reconstruct(x), wanted)


def test_a_layer_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = copied("circuit_tracer/layers", tmp_path)
    (folder / "layer_1.safetensors").unlink()
    assert "every layer" in refusal(DictionaryInvalid, folder).what
    cross = copied("circuit_tracer/cross_layer", tmp_path)
    (cross / "W_dec_2.safetensors").unlink()
    refusal(DictionaryInvalid, cross)
    shutil.copytree(cross, tmp_path / "shorter", ignore=shutil.ignore_patterns("*_2.safetensors"))
    assert "wrong shape" in refusal(DictionaryInvalid, tmp_path / "shorter").what


def test_a_folder_of_nothing_known_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a dictionary was here")
    (tmp_path / "private.txt").touch()
    assert "notes.txt" in str(refusal(FormatUnknown, tmp_path).got)
    assert refusal(FormatUnknown, tmp_path / "notes.txt").got == "notes.txt", "of a file not what lies beside it"
    assert "saelens" in str(refusal(FormatUnknown, FIXTURES / "sparsify" / "sae", format_name="saelens").wanted)
    with pytest.raises(ArtifactMissing):
        load_any(tmp_path / "nothing")


def test_a_set_is_not_taken_for_one_dictionary() -> None:
    with pytest.raises(SiteNotFound, match="3 dictionaries"):
        load_dictionary(FIXTURES / "circuit_tracer" / "layers")


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_positive_number_is_named(scale: float, tmp_path: Path) -> None:
    folder = copied("saelens/standard", tmp_path)
    rewritten(folder, "cfg.json", {"normalize_activations": "expected_average_only_in"})
    assert "input_scale" in refusal(DictionaryInvalid, folder, input_scale=scale).what
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale}))
    assert "scaling_factor" in refusal(DictionaryInvalid, folder).what


@pytest.mark.parametrize("case", ["sparsify/sae", "circuit_tracer/layers"])
def test_a_scale_that_would_have_no_effect_is_refused(case: str) -> None:
    for load in (load_any, load_dictionary):
        with pytest.raises(ConfigError, match="input_scale has no meaning"):
            load(FIXTURES / case, input_scale=0.5)


@pytest.mark.parametrize("given", [{"input_scale": 0.5}, {"reads": "L0.mlp_in"}, {"writes": "L0.mlp_out"}])
def test_what_an_artifact_of_ours_says_itself_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{}")
    for load in (load_any, load_dictionary):
        with pytest.raises(ConfigError, match=f"{next(iter(given))} has no meaning"):
            load(tmp_path, **given)


def test_weights_in_whole_numbers_are_refused(tmp_path: Path) -> None:
    """They were quantised, and the scales are elsewhere."""
    folder = copied("saelens/standard", tmp_path)
    file = folder / "sae_weights.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "W_enc": (tensors["W_enc"] * 100).to(torch.int8)}, file)
    assert "real numbers" in refusal(DictionaryInvalid, folder).what


def test_a_dictionary_without_features_is_refused(tmp_path: Path) -> None:
    folder = copied("saelens/standard", tmp_path)
    file = folder / "sae_weights.safetensors"
    empty = {"W_enc": torch.zeros(8, 0), "W_dec": torch.zeros(0, 8), "b_enc": torch.zeros(0), "b_dec": torch.zeros(8)}
    save_file(empty, file)
    assert "no features" in refusal(DictionaryInvalid, folder).what


@pytest.mark.parametrize("claim", ["expanded", "absent"])
def test_a_pickled_tensor_that_is_more_than_its_bytes_is_refused(claim: str, tmp_path: Path) -> None:
    """An expanded one is a few bytes in the file and terabytes when it is looked at."""
    folder = copied("dictionary_learning/topk", tmp_path)
    made = {
        "expanded": torch.zeros(1, 1).expand(10**7, 10**6),
        "absent": torch.empty(10**7, 10**6, device="meta"),
    }
    torch.save({**torch.load(folder / "ae.pt", weights_only=True), "encoder.weight": made[claim]}, folder / "ae.pt")
    assert "element for element" in refusal(DictionaryInvalid, folder).what


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    gemma, learned = copied(GEMMA, tmp_path), copied("dictionary_learning/topk", tmp_path)
    for file in (gemma / "params.npz", learned / "ae.pt"):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("W_enc.npy", "w") as entry:
            for _ in range(80):
                entry.write(bytes(1 << 20))
    assert "unpacks" in refusal(DictionaryInvalid, gemma, reads="L2.resid_post").what
    assert "unpacks" in refusal(DictionaryInvalid, learned).what


def test_any_damage_to_a_pickle_or_an_archive_has_a_named_error(tmp_path: Path) -> None:
    """Each byte of the pickle in turn is another one; what still opens must be of the right shape."""
    folder = copied("dictionary_learning/topk", tmp_path)
    state = torch.load(folder / "ae.pt", weights_only=True)
    with zipfile.ZipFile(folder / "ae.pt") as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    pickled = next(name for name in entries if name.endswith("data.pkl"))
    assert state
    for at in range(0, len(entries[pickled]), 5):
        changed = bytearray(entries[pickled])
        changed[at] ^= 0x55
        with zipfile.ZipFile(folder / "ae.pt", "w") as archive:
            for name, content in {**entries, pickled: bytes(changed)}.items():
                archive.writestr(name, content)
        with suppress(MicrotomeError):
            load_any(folder)
    gemma = copied(GEMMA, tmp_path)
    with np.load(gemma / "params.npz") as opened:
        arrays = dict(opened)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    broken = bytearray(packed.getvalue())
    broken[80:120] = bytes(40)
    (gemma / "params.npz").write_bytes(broken)
    refusal(DictionaryInvalid, gemma, reads="L2.resid_post")


def test_a_config_nested_without_end_is_named(tmp_path: Path) -> None:
    folder = copied("saelens/standard", tmp_path)
    (folder / "cfg.json").write_text("[" * 100_000)
    refusal(DictionaryInvalid, folder)


def test_a_layer_of_a_longer_gemma_scope_2_transcoder_is_not_taken_for_tied(tmp_path: Path) -> None:
    """Its decoders go to three layers; beside a fourth file the third would have one left, which would serve both."""
    folder = copied("gemma_scope_2/gemma-scope-2-1b-pt/clt/width_262k_l0_medium_affine", tmp_path)
    count = len(list(folder.glob("params_layer_*.safetensors")))
    shutil.copy(folder / f"params_layer_{count - 1}.safetensors", folder / f"params_layer_{count}.safetensors")
    with pytest.raises(DictionaryInvalid, match="wrong shape"):
        load_dictionary(folder, member=Site("mlp_in", count - 1))
