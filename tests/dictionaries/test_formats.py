"""Every format: what other libraries wrote is read with their own outputs, and what is written is read as the same dictionary.

The fixtures are made by bench/peers/format_fixtures.py with the libraries themselves, which also open there what microtome writes.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import microtome
from microtome.dictionaries import (
    SAE,
    AbsTopK,
    BatchTopK,
    Dictionary,
    DictionarySet,
    Gated,
    JumpReLU,
    Nonlinearity,
    ReLU,
    SparseCodes,
    TopK,
    Transcoder,
    load_any,
    load_dictionary,
    read_any,
    write_weights,
)
from microtome.dictionaries.formats import FORMATS, Hints, read_foreign, write_foreign
from microtome.errors import ArtifactConflict, FormatCannotHold, HookUnknown, MicrotomeError, SiteNotFound
from microtome.models import Site
from microtome.shapes import Tensor
from microtome.testing import check_format

FIXTURES = Path(__file__).parent / "fixtures"
WRITTEN = ("saelens", "sparsify", "dictionary_learning", "circuit_tracer")
D_IN, D_DICT = 8, 16


def fixtures() -> dict[str, tuple[Path, Path]]:
    """Folder and expected outputs of every fixture: of `a.b.expected.safetensors` the folder is `a.b` or `a/b` beside it."""
    found: dict[str, tuple[Path, Path]] = {}
    for file in sorted(FIXTURES.rglob("*.expected.safetensors")):
        case = file.name.removesuffix(".expected.safetensors")
        folder = next(path for path in (file.parent / case, file.parent / case.replace(".", "/")) if path.is_dir())
        found[folder.relative_to(FIXTURES).as_posix()] = (folder, file)
    return found


CASES = fixtures()
FOLDERS = {case: folder for case, (folder, _) in CASES.items()}
WRITABLE = [case for case in FOLDERS if case.startswith(WRITTEN)]


def expected(case: str) -> dict[str, Tensor]:
    return load_file(CASES[case][1])


def opened(case: str) -> Dictionary | DictionarySet:
    """A fixture, with a gain of 1 for those that lie before one."""
    return load_any(FOLDERS[case], gain=lambda _: torch.ones(D_IN))


def outputs(dictionary: Dictionary | DictionarySet, x: Tensor) -> tuple[Tensor, Tensor]:
    """Dense codes and reconstruction, stacked over the layers of a set."""
    if isinstance(dictionary, Dictionary):
        return dense(dictionary.encode(x)), dictionary.reconstruct(x)
    inputs = dict(zip(dictionary.sites, x, strict=True))
    codes = dictionary.encode(inputs)
    return torch.stack([dense(codes[site]) for site in dictionary.sites]), torch.stack(list(dictionary.reconstruct(inputs).values()))


def dense(codes: SparseCodes) -> Tensor:
    return torch.zeros(codes.rows, codes.d_dict).scatter_add_(1, codes.indices, codes.values)


def weights_of(nonlinearity: Nonlinearity, *, decoders: tuple[int, ...] = (), skip: bool = False, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.4

    weights = {"W_enc": random(D_DICT, D_IN), "W_dec": random(D_DICT, *decoders, D_IN), "b_enc": random(D_DICT), "b_dec": random(D_IN)}
    weights |= {name: random(D_DICT).abs() for name in nonlinearity.tensors}
    return {**weights, "W_skip": random(D_IN, D_IN)} if skip else weights


def sae_of(nonlinearity: Nonlinearity, *, centred: bool = True, input_scale: float = 0.3, pooling: str = "token") -> SAE:
    site, weights = Site.parse("L2.resid_post"), weights_of(nonlinearity)
    return SAE(site=site, nonlinearity=nonlinearity, weights=weights, input_scale=input_scale, centred=centred, pooling=pooling)


def transcoder_of(nonlinearity: Nonlinearity, *, layer: int = 0, layers: int = 1, skip: bool = False) -> Transcoder:
    """From `mlp_in` to the `mlp_out` of this and of all later layers, with scales on both sides."""
    count = layers - layer
    weights = weights_of(nonlinearity, decoders=(count,) if count > 1 else (), skip=skip, seed=layer)
    writes = tuple(Site("mlp_out", later) for later in range(layer, layers))
    return Transcoder(reads=Site("mlp_in", layer), writes=writes, nonlinearity=nonlinearity, weights=weights, input_scale=0.7, output_scale=1.9)


def tied_transcoder_of(nonlinearity: Nonlinearity) -> Transcoder:
    """One decoder for two writes: as wide as the input, and yet not one site's."""
    writes = (Site("mlp_out", 0), Site("mlp_out", 1))
    return Transcoder(reads=Site("mlp_in", 0), writes=writes, nonlinearity=nonlinearity, weights=weights_of(nonlinearity))


@pytest.mark.parametrize("case", FOLDERS)
def test_a_dictionary_of_another_library_computes_what_it_computes_there(case: str) -> None:
    wanted = expected(case)
    codes, y = outputs(opened(case), wanted["x"])
    torch.testing.assert_close(codes, wanted["codes"], atol=1e-5, rtol=1e-5)
    if "embedding" in case:  # the reader that made this leaves the output's bias unscaled, which cannot be meant
        y = y - (D_IN**0.5 - 1) * load_dictionary(FOLDERS[case], reads="L0.resid_pre").decode(
            SparseCodes(torch.zeros(1, 1).long(), torch.zeros(1, 1), D_DICT)
        )
    torch.testing.assert_close(y, wanted["y"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", FOLDERS)
def test_it_survives_the_native_format(case: str, tmp_path: Path) -> None:
    x, dictionary = expected(case)["x"], opened(case)
    write_weights(dictionary, tmp_path / "weights.safetensors")
    for mine, theirs in zip(outputs(dictionary, x), outputs(read_any(tmp_path / "weights.safetensors"), x), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("case", WRITABLE)
def test_what_was_read_is_written_and_read_again_to_the_bit(case: str, tmp_path: Path) -> None:
    name = case.split("/", maxsplit=1)[0]
    first = read_foreign(FOLDERS[case])
    second = read_foreign(write_foreign(first.dictionary, tmp_path / "out", format_name=name, about=first.about))
    x = expected(case)["x"]
    for mine, theirs in zip(outputs(first.dictionary, x), outputs(second.dictionary, x), strict=True):
        assert torch.equal(mine, theirs)
    assert first.about.get("model_name") == second.about.get("model_name")


@pytest.mark.parametrize("case", ["saelens/standard", "saelens/skip_transcoder", "circuit_tracer/layers", "circuit_tracer/cross_layer_skip"])
def test_the_file_itself_comes_back(case: str, tmp_path: Path) -> None:
    """Tensor for tensor, where nothing was folded on the way in."""
    read = read_foreign(FOLDERS[case])
    write_foreign(read.dictionary, tmp_path, format_name=case.split("/", maxsplit=1)[0], about=read.about)
    for file in FOLDERS[case].glob("*.safetensors"):
        before, after = load_file(file), load_file(tmp_path / file.name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_libraries_opened_what_microtome_wrote_of_every_case() -> None:
    record: Mapping[str, Mapping[str, Mapping[str, float]]] = json.loads((FIXTURES / "record.json").read_text())
    for name in WRITTEN:
        cases = {case.split("/")[1] for case in WRITABLE if case.startswith(name)} - {"cross_layer_skip"}
        assert set(record[name]["largest_difference"]) == cases
        assert max(record[name]["largest_difference"].values()) < 1e-5


NONLINEARITIES = [ReLU(), JumpReLU(), TopK(k=4), AbsTopK(k=4), BatchTopK(k=4, threshold=0.4), Gated()]
HELD = {
    "saelens": [ReLU, JumpReLU, TopK, AbsTopK, BatchTopK, Gated],
    "sparsify": [TopK],
    "dictionary_learning": [ReLU, JumpReLU, TopK, BatchTopK, Gated],
    "circuit_tracer": [],
}


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", WRITTEN)
def test_scales_and_centring_are_folded_exactly_or_refused(name: str, nonlinearity: Nonlinearity, tmp_path: Path) -> None:
    for centred in (True, False):
        sae = sae_of(nonlinearity, centred=centred)
        if type(nonlinearity) in HELD[name]:
            check_format(name, sae)
        else:
            with pytest.raises(FormatCannotHold):
                write_foreign(sae, tmp_path, format_name=name)


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_transcoders_keep_their_scales_and_skip(skip: bool) -> None:
    check_format("saelens", transcoder_of(ReLU(), skip=skip))
    check_format("saelens", transcoder_of(JumpReLU(), skip=skip))
    check_format("sparsify", transcoder_of(TopK(k=4), skip=skip))
    for act in (ReLU(), JumpReLU(), TopK(k=4)):
        layers = tuple(transcoder_of(act, layer=layer, layers=layer + 1, skip=skip) for layer in range(3))
        check_format("circuit_tracer", DictionarySet(layers))
        if not isinstance(act, TopK):
            cross = tuple(transcoder_of(act, layer=layer, layers=3, skip=skip) for layer in range(3))
            check_format("circuit_tracer", DictionarySet(cross, kind="cross-layer"))


def test_tied_decoders_are_written_out() -> None:
    members: list[Dictionary] = []
    for layer in range(3):
        writes = tuple(Site("mlp_out", later) for later in range(layer, 3))
        members.append(Transcoder(reads=Site("mlp_in", layer), writes=writes, nonlinearity=ReLU(), weights=weights_of(ReLU(), seed=layer)))
    check_format("circuit_tracer", DictionarySet(tuple(members), kind="cross-layer"))


def test_a_folder_of_hookpoints_is_a_set(tmp_path: Path) -> None:
    for case, hookpoint in (("sae", "layers.2"), ("by_factor", "layers.1"), ("transcoder", "layers.2.mlp")):
        shutil.copytree(FIXTURES / "sparsify" / case / hookpoint, tmp_path / hookpoint)
    dictionaries = load_any(tmp_path)
    assert isinstance(dictionaries, DictionarySet)
    assert [str(site) for site in dictionaries.sites] == ["L1.resid_post", "L2.mlp_in", "L2.resid_post"]
    assert load_dictionary(tmp_path / "layers.2").reads == Site.parse("L2.resid_post")
    assert load_dictionary(tmp_path, member=Site.parse("L2.mlp_in")).writes == (Site.parse("L2.mlp_out"),)


@pytest.mark.parametrize(
    ("case", "other"),
    [("layers", "layer_0.safetensors"), ("cross_layer", "W_enc_0.safetensors"), ("clt/width_262k_l0_medium_affine", "params_layer_0.safetensors")],
)
def test_one_layer_is_read_without_the_others(case: str, other: str, tmp_path: Path) -> None:
    """Another layer's file may be damaged, so it was not read; the layer computes what it computes in the set."""
    source = FIXTURES / ("gemma_scope_2/gemma-scope-2-1b-pt" if "clt" in case else "circuit_tracer") / case
    folder, site = shutil.copytree(source, tmp_path / "set"), Site("mlp_in", 1)
    (folder / other).write_bytes(b"damaged")
    whole, alone = load_any(source), load_dictionary(folder, member=site)
    assert isinstance(whole, DictionarySet)
    x = torch.randn(5, D_IN, generator=torch.Generator().manual_seed(2))
    assert torch.equal(alone.reconstruct(x), whole.member(site).reconstruct(x))
    with pytest.raises(SiteNotFound):
        load_dictionary(folder, member=Site("mlp_in", 9))


def test_a_gain_is_folded_into_the_encoder() -> None:
    """Codes of what a norm puts out are those of the fixture at what it had before its gain."""
    case = "gemma_scope/gemma-scope-2b-pt-transcoders/layer_2/width_16k/average_l0_9"
    gain = torch.linspace(0.5, 3, D_IN)
    dictionary = load_dictionary(FOLDERS[case], gain=lambda _: gain)
    assert (str(dictionary.reads), str(dictionary.writes[0])) == ("L2.mlp_in", "L2.mlp_out")
    codes, y = outputs(dictionary, expected(case)["x"] * gain)
    torch.testing.assert_close(codes, expected(case)["codes"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(y, expected(case)["y"], atol=1e-5, rtol=1e-5)
    with pytest.raises(HookUnknown, match="gain"):
        load_any(FOLDERS[case])


def test_llama_scope_compares_its_threshold_with_the_pre_activation_times_the_decoder_norm(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS["llama_scope/Llama3_1-8B-Base-L2R-8x"], tmp_path / "L2R")
    config = json.loads((folder / "hyperparams.json").read_text())
    (folder / "hyperparams.json").write_text(json.dumps({**config, "sparsity_include_decoder_norm": True}))
    stored = {name: tensor.float() for name, tensor in load_file(folder / "checkpoints" / "final.safetensors").items()}
    x = torch.randn(20, D_IN, generator=torch.Generator().manual_seed(3))
    scale = D_IN**0.5 / config["dataset_average_activation_norm"]["in"]
    pre = x @ stored["encoder.weight"].T + stored["encoder.bias"] / scale
    active = pre * stored["decoder.weight"].norm(dim=0) > config["jump_relu_threshold"]
    codes, _ = outputs(load_dictionary(folder), x)
    torch.testing.assert_close(codes, pre * scale * active, atol=1e-5, rtol=1e-5)


def test_one_door_opens_every_format_and_our_own(tmp_path: Path) -> None:
    from microtome.artifacts import Draft
    from microtome.dictionaries import save

    with Draft.open(tmp_path / "own", "dictionary", config={}, inputs={}) as draft:
        save(sae_of(TopK(k=4)), draft)
        draft.finish()
    assert isinstance(microtome.load(tmp_path / "own"), SAE)
    assert isinstance(microtome.load(str(FOLDERS["saelens/standard"])), SAE)
    assert isinstance(microtome.load(FOLDERS["dictionary_learning/topk"] / "ae.pt"), SAE)
    assert isinstance(microtome.load(FOLDERS["circuit_tracer/layers"]), DictionarySet)
    assert microtome.load(FOLDERS["saelens/standard"], reads="L5.mlp_out").writes == (Site.parse("L5.mlp_out"),)


def test_formats_say_only_what_they_need() -> None:
    assert FORMATS.get("saelens").detect(["cfg.json", "sae_weights.safetensors", "runner_cfg.json"]) == ("cfg.json", "sae_weights.safetensors")
    names = ["README.md", "layers.1/cfg.json", "layers.1/sae.safetensors", "layers.1/optimizer_0.pt"]
    assert FORMATS.get("sparsify").detect(names) == ("layers.1/cfg.json", "layers.1/sae.safetensors")
    assert FORMATS.get("gemma_scope_2").detect(["params_layer_1.safetensors", "params_layer_0.safetensors"])[0] == "params_layer_0.safetensors"


@pytest.mark.parametrize("name", WRITTEN)
def test_no_other_library_has_pooled_dictionaries(name: str, tmp_path: Path) -> None:
    pooled = sae_of(TopK(k=4), pooling="turn")
    with pytest.raises(FormatCannotHold):
        write_foreign(DictionarySet((pooled,)) if name == "circuit_tracer" else pooled, tmp_path, format_name=name)


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    negative = weights_of(JumpReLU()) | {"threshold": torch.full((D_DICT,), -0.1)}
    signed = SAE(site=Site.parse("L2.resid_post"), nonlinearity=JumpReLU(), weights=negative, input_scale=1.0)
    refused: list[tuple[str, Dictionary | DictionarySet]] = [
        ("saelens", signed),
        ("dictionary_learning", signed),
        ("saelens", sae_of(BatchTopK(k=4))),
        ("saelens", transcoder_of(TopK(k=4))),
        ("saelens", transcoder_of(ReLU(), layers=2)),
        ("dictionary_learning", transcoder_of(ReLU())),
        ("sparsify", tied_transcoder_of(TopK(k=4))),
        ("saelens", tied_transcoder_of(ReLU())),
        ("sparsify", DictionarySet((transcoder_of(TopK(k=4)),), kind="cross-layer")),
        ("circuit_tracer", DictionarySet((transcoder_of(ReLU(), layer=1, layers=2),))),
        ("circuit_tracer", transcoder_of(ReLU())),
        ("gemma_scope", sae_of(JumpReLU())),
    ]
    for name, dictionary in refused:
        with pytest.raises(FormatCannotHold):
            write_foreign(dictionary, tmp_path, format_name=name)
    assert not list(tmp_path.iterdir())


def test_a_site_that_another_library_has_no_name_for_is_refused(tmp_path: Path) -> None:
    weights = weights_of(TopK(k=4))
    for name, site in (("saelens", "L2.attn_in"), ("sparsify", "L2.resid_mid")):
        with pytest.raises(MicrotomeError) as caught:
            write_foreign(SAE(site=Site.parse(site), nonlinearity=TopK(k=4), weights=weights, input_scale=1.0), tmp_path, format_name=name)
        assert isinstance(caught.value, HookUnknown)


def test_hints_override_what_the_path_says() -> None:
    read = read_foreign(
        FOLDERS["gemma_scope/gemma-scope-2b-pt-res/layer_2/width_16k/average_l0_9"], hints=Hints(name="", reads=Site.parse("L4.mlp_out"))
    )
    assert isinstance(read.dictionary, Dictionary)
    assert read.dictionary.reads == Site.parse("L4.mlp_out")
    assert read.about["model_name"] == "google/gemma-2-2b"


@pytest.mark.parametrize(("name", "nonlinearity"), [("saelens", ReLU()), ("sparsify", TopK(k=4))])
def test_an_only_write_with_an_axis_of_its_own_is_held_all_the_same(name: str, nonlinearity: Nonlinearity) -> None:
    weights = weights_of(nonlinearity)
    weights |= {"W_dec": weights["W_dec"][:, None], "b_dec": weights["b_dec"][None]}
    check_format(name, Transcoder(reads=Site("mlp_in", 0), writes=(Site("mlp_out", 0),), nonlinearity=nonlinearity, weights=weights))


def test_a_shorter_set_is_not_mixed_with_the_layers_of_a_longer_one(tmp_path: Path) -> None:
    members = tuple(transcoder_of(ReLU(), layer=layer, layers=layer + 1) for layer in range(3))
    write_foreign(DictionarySet(members), tmp_path, format_name="circuit_tracer")
    write_foreign(DictionarySet(members), tmp_path, format_name="circuit_tracer")
    with pytest.raises(ArtifactConflict, match="another set"):
        write_foreign(DictionarySet(members[:2]), tmp_path, format_name="circuit_tracer")
    loaded = load_any(tmp_path)
    assert isinstance(loaded, DictionarySet)
    assert len(loaded.members) == 3
