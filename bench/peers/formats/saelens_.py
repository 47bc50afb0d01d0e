"""SAELens: what it writes and puts out, one case an architecture; and Gemma Scope, Gemma Scope 2 and Llama Scope through its own readers."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.registry import get_sae_class, get_sae_training_class
from safetensors.torch import load_file, save_file
from sample import D_DICT, D_IN, K, fill, inputs, main, store

SITE = {"model_name": "tiny", "hook_name": "blocks.2.hook_resid_post", "prepend_bos": True, "context_size": 64}
MLP = {"model_name": "tiny", "hook_name": "blocks.2.mlp.hook_in", "hook_name_out": "blocks.2.hook_mlp_out"}
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {}),
    "standard_uncentred": ("standard", {"apply_b_dec_to_input": False}),
    "topk": ("topk", {"k": K}),
    "topk_rescaled": ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    "abstopk": ("abstopk", {"k": K}),
    "jumprelu": ("jumprelu", {}),
    "jumprelu_uncentred": ("jumprelu", {"apply_b_dec_to_input": False}),
    "gated": ("gated", {}),
    "gated_uncentred": ("gated", {"apply_b_dec_to_input": False}),
    "transcoder": ("transcoder", {"d_out": D_IN, "apply_b_dec_to_input": False}),
    "skip_transcoder": ("skip_transcoder", {"d_out": D_IN, "apply_b_dec_to_input": False}),
    "jumprelu_transcoder": ("jumprelu_transcoder", {"d_out": D_IN, "apply_b_dec_to_input": False}),
    "jumprelu_skip_transcoder": ("jumprelu_skip_transcoder", {"d_out": D_IN, "apply_b_dec_to_input": False}),
}
TRAINED = {"batchtopk": {"k": K}, "matryoshka_batchtopk": {"k": K, "matryoshka_widths": [4, 8, D_DICT]}}


def outputs(folder: Path, x: torch.Tensor) -> dict[str, torch.Tensor]:
    sae = SAE.load_from_disk(folder)
    with torch.no_grad():
        return {"x": x, "codes": sae.encode(x), "y": sae(x)}


def make(folder: Path) -> None:
    own = folder / "saelens"
    for seed, (case, (architecture, settings)) in enumerate(PLAIN.items()):
        made, config = get_sae_class(architecture)
        sae: Any = made(
            config.from_dict(
                {"architecture": architecture, "d_in": D_IN, "d_sae": D_DICT, "metadata": MLP if "transcoder" in case else SITE, **settings}
            )
        )
        fill(sae, seed=seed)
        if case == "jumprelu":
            sae.threshold.data[:3] = -0.5  # a ReLU comes first, so that a negative threshold means 0
        sae.save_model(own / case)
        store(own, case, **outputs(own / case, inputs()))
    for seed, (architecture, settings) in enumerate(TRAINED.items()):
        made, config = get_sae_training_class(architecture)
        sae = made(config(d_in=D_IN, d_sae=D_DICT, **settings))
        sae.cfg.metadata.hook_name = SITE["hook_name"]
        fill(sae, seed=20 + seed)
        sae.topk_threshold.fill_(0.7)
        sae.save_inference_model(own / architecture)
        expected = outputs(own / architecture, inputs())
        store(own, architecture, **expected)
        sae.save_model(own / f"{architecture}_training")
        store(own, f"{architecture}_training", **expected)
    old_keys(own)
    foreign(folder)


def old_keys(own: Path) -> None:
    """The same weights under a config as SAELens wrote it before version 6: flat, other names, the nonlinearity by its function."""
    flat = {"d_in": D_IN, "d_sae": D_DICT, "dtype": "torch.float32", "hook_point": SITE["hook_name"], "hook_point_layer": 2, "model_name": "tiny"}
    more = {
        "standard": {"normalize_activations": False, "l1_coefficient": 5},
        "topk": {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}},
    }
    for case, settings in more.items():
        old = own / f"old_{case}"
        old.mkdir(exist_ok=True)
        (old / "sae_weights.safetensors").write_bytes((own / case / "sae_weights.safetensors").read_bytes())
        (old / "cfg.json").write_text(json.dumps({**flat, **settings}))
        store(own, old.name, **outputs(old, inputs()))


def foreign(folder: Path) -> None:
    """Files in the layouts of three releases, read by SAELens' readers for them."""
    generator = torch.Generator().manual_seed(40)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.4

    params = {
        "W_enc": random(D_IN, D_DICT),
        "W_dec": random(D_DICT, D_IN),
        "b_enc": random(D_DICT),
        "b_dec": random(D_IN),
        "threshold": random(D_DICT).abs(),
    }
    for place in (
        "gemma-scope-2b-pt-res/layer_2/width_16k/average_l0_9",
        "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_9",
        "gemma-scope-2b-pt-transcoders/layer_2/width_16k/average_l0_9",
    ):
        target = folder / "gemma_scope" / place
        target.mkdir(parents=True)
        np.savez(target / "params.npz", **{name: value.numpy() for name, value in params.items()})
    lower = {name.lower(): value for name, value in params.items()}
    two = folder / "gemma_scope_2" / "gemma-scope-2-1b-pt"
    for place, settings in {
        "resid_post/layer_2_width_16k_l0_small": {"hf_hook_point_in": "model.layers.2.output"},
        "transcoder/layer_2_width_16k_l0_small_affine": {
            "hf_hook_point_in": "model.layers.2.pre_feedforward_layernorm.output",
            "hf_hook_point_out": "model.layers.2.post_feedforward_layernorm.output",
            "affine_connection": True,
        },
    }.items():
        (two / place).mkdir(parents=True)
        skip = {"affine_skip_connection": random(D_IN, D_IN)} if "affine" in place else {}
        save_file({**lower, **skip}, two / place / "params.safetensors")
        (two / place / "config.json").write_text(json.dumps({"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt", **settings}))
    llama = folder / "llama_scope" / "Llama3_1-8B-Base-L2R-8x"
    (llama / "checkpoints").mkdir(parents=True)
    weights = {
        "encoder.weight": params["W_enc"].T,
        "encoder.bias": params["b_enc"],
        "decoder.weight": params["W_dec"].T,
        "decoder.bias": params["b_dec"],
    }
    save_file({name: value.contiguous().bfloat16() for name, value in weights.items()}, llama / "checkpoints" / "final.safetensors")
    settings = {
        "hook_point_in": "blocks.2.hook_resid_post",
        "hook_point_out": "blocks.2.hook_resid_post",
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.5,
    }
    norms = {"dataset_average_activation_norm": {"in": 5.0, "out": 5.0}, "norm_activation": "dataset-wise", "sparsity_include_decoder_norm": False}
    (llama / "hyperparams.json").write_text(json.dumps({"d_model": D_IN, "d_sae": D_DICT, "top_k": K, "expansion_factor": 2, **settings, **norms}))
    through_its_readers(folder)


def through_its_readers(folder: Path) -> None:
    def local(repo_id: str, filename: str, *, subfolder: str | None = None, **_: Any) -> str:
        return str(Path(repo_id) / (subfolder or "") / filename)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        return {name: list(value.shape) for name, value in load_file(Path(repo_id) / filename).items()}

    cases = [
        (loaders.gemma_2_sae_huggingface_loader, "gemma_scope/gemma-scope-2b-pt-res", "layer_2/width_16k/average_l0_9"),
        (loaders.gemma_2_sae_huggingface_loader, "gemma_scope/gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_9"),
        (loaders.gemma_2_transcoder_huggingface_loader, "gemma_scope/gemma-scope-2b-pt-transcoders", "layer_2/width_16k/average_l0_9"),
        (loaders.gemma_3_sae_huggingface_loader, "gemma_scope_2/gemma-scope-2-1b-pt", "resid_post/layer_2_width_16k_l0_small"),
        (loaders.gemma_3_sae_huggingface_loader, "gemma_scope_2/gemma-scope-2-1b-pt", "transcoder/layer_2_width_16k_l0_small_affine"),
        (loaders.llama_scope_sae_huggingface_loader, "llama_scope", "Llama3_1-8B-Base-L2R-8x"),
    ]
    with patch.object(loaders, "hf_hub_download", local), patch.object(loaders, "get_safetensors_tensor_shapes", shapes):
        for read, repo, place in cases:
            overrides = {"d_in": D_IN, "d_sae": D_DICT, "dtype": "float32"} | ({"d_out": D_IN} if "transcoder" in repo else {})
            config, weights, _ = read(str(folder / repo), place, "cpu", cfg_overrides=overrides)
            made, kind = get_sae_class(config["architecture"])
            sae: Any = made(kind.from_dict(loaders.handle_config_defaulting(config)))
            sae.load_state_dict({name: value.float() for name, value in weights.items()})
            if config["normalize_activations"] == "expected_average_only_in":
                sae.fold_activation_norm_scaling_factor(D_IN**0.5 / 5.0)  # its directory of releases holds this number
            with torch.no_grad():
                store(folder / repo, place.replace("/", "."), x=inputs(), codes=sae.encode(inputs()), y=sae(inputs()))


if __name__ == "__main__":
    main(make, outputs)
