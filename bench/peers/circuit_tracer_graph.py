"""circuit-tracer's `attribute` on the demo model: `circuit_tracer_graph.py ASKED.json OUT.safetensors`; time and memory on standard output.

Its own TransformerLens replacement model is made from a Llama folder and a folder of transcoders, both written by ours; only the model's name is not
on TransformerLens' list, so that its config is written out here and the weights go through its own conversion.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from circuit_tracer import attribute
from circuit_tracer.replacement_model.replacement_model_transformerlens import TransformerLensReplacementModel
from circuit_tracer.transcoder.activation_functions import TopK
from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
from peak import beyond
from safetensors.torch import load_file, save_file
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_llama_weights
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CPU: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    made = model(asked["model"], transcoders(Path(asked["set"])))
    tokens = torch.tensor(asked["tokens"])
    settings = {"batch_size": asked["batch"], "max_n_logits": 10, "desired_logit_prob": 0.95}
    attribute(tokens[:4], made, max_feature_nodes=16, **{**settings, "batch_size": 8})
    gc.collect()
    with beyond() as used:
        start = time.perf_counter()
        graph = attribute(tokens, made, max_feature_nodes=asked["rows"], **settings)
        seconds = time.perf_counter() - start
    assert graph.input_tokens.tolist() == asked["tokens"], "a token was put before the prompt"
    with torch.no_grad():
        logits = made(tokens[None])[0, -1]
    logit_tokens = torch.tensor([target.vocab_idx for target in graph.logit_targets])
    found = {"active": graph.active_features, "chosen": graph.selected_features, "edges": graph.adjacency_matrix, "tokens": logit_tokens}
    save_file({name: value.contiguous() for name, value in {**found, "logits": logits}.items()}, sys.argv[2])
    print(json.dumps({"seconds": seconds, "beyond_weights": used.bytes, "features": len(graph.active_features)}))


def model(asked: dict[str, Any], made: Any) -> Any:
    config = LlamaConfig(**asked["config"])
    llama = LlamaForCausalLM(config)
    llama.load_state_dict(load_file(asked["weights"]), strict=False)
    llama.tie_weights()
    lens = HookedTransformerConfig(
        model_name="demo",
        d_model=config.hidden_size,
        d_head=config.hidden_size // config.num_attention_heads,
        n_heads=config.num_attention_heads,
        n_key_value_heads=config.num_key_value_heads,
        d_mlp=config.intermediate_size,
        n_layers=config.num_hidden_layers,
        n_ctx=256,
        eps=config.rms_norm_eps,
        d_vocab=config.vocab_size,
        act_fn=config.hidden_act,
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_adjacent_pairs=False,
        rotary_dim=config.hidden_size // config.num_attention_heads,
        rotary_base=int(config.rope_theta),
        final_rms=True,
        gated_mlp=True,
        device="cpu",
        dtype=torch.float32,
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=asked["tokenizer"], bos_token=asked["bos"], eos_token=asked["bos"], pad_token=asked["bos"])
    replacement: Any = TransformerLensReplacementModel(lens)
    replacement.tokenizer = tokenizer  # given to the constructor it would be looked up on the hub again
    weights = {name: value.detach().contiguous() for name, value in convert_llama_weights(llama, lens).items()}
    del llama
    names = {
        "fold_ln": False,
        "center_writing_weights": False,
        "center_unembed": False,
        "fold_value_biases": False,
        "refactor_factored_attn_matrices": False,
    }
    replacement.load_and_process_state_dict(weights, **names)
    replacement._configure_replacement_model(made)
    return replacement


def transcoders(folder: Path) -> Any:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    hooks = {name: config[name] for name in ("feature_input_hook", "feature_output_hook")}
    in_memory = {"lazy_encoder": False, "lazy_decoder": False}
    if config["model_kind"] == "cross_layer_transcoder":
        return load_clt(str(folder), **hooks, **CPU, **in_memory)
    files = {layer: str(folder / f"layer_{layer}.safetensors") for layer in range(len(list(folder.glob("layer_*.safetensors"))))}
    made = load_transcoder_set(files, scan="demo", **hooks, **CPU, **in_memory)
    if config.get("activation") == "topk":  # its loader of local files knows ReLU and JumpReLU; the class is its own
        for member in made.transcoders:
            member.activation_function = TopK(config["k"])
    return made


if __name__ == "__main__":
    main()
