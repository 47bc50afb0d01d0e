"""SAEDashboard's own run over given tokens: `saedashboard_run.py MODEL material.npz LAYER K BATCHES OUT [cached]`; prints seconds a batch.

Runs in bench/peers/saelens/.venv. The model is TransformerLens' with the weights of the folder; batches of 128 features, as its command line has
them, layout and minibatches by default. With `cached` the model's activations are kept on disk between the batches. OUT (.npz) receives for each
feature the strongest activations shown and the tokens it raises most.
"""

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sae_dashboard.sae_vis_data import SaeVisConfig  # noqa: E402
from sae_dashboard.sae_vis_runner import SaeVisRunner  # noqa: E402
from sae_lens import HookedSAETransformer, TopKSAE, TopKSAEConfig  # noqa: E402
from transformer_lens import HookedTransformerConfig  # noqa: E402
from transformer_lens.pretrained.weight_conversions import convert_llama_weights  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

FEATURES, BUFFER = 128, 5
model_path, material, layer, k, batches, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
torch.set_num_threads(2)
with np.load(material) as held:
    tokens, W_enc, W_dec, b_enc = (torch.from_numpy(held[each]) for each in ("tokens", "W_enc", "W_dec", "b_enc"))


def hooked() -> HookedSAETransformer:
    """The Llama weights under TransformerLens' names, its norms folded into what follows, as it loads models by default."""
    plain = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    c = plain.config
    config = HookedTransformerConfig(
        d_model=c.hidden_size,
        d_head=c.head_dim,
        n_heads=c.num_attention_heads,
        n_key_value_heads=c.num_key_value_heads,
        d_mlp=c.intermediate_size,
        n_layers=c.num_hidden_layers,
        n_ctx=tokens.shape[1],
        eps=c.rms_norm_eps,
        d_vocab=c.vocab_size,
        act_fn=c.hidden_act,
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_adjacent_pairs=False,
        rotary_dim=c.head_dim,
        rotary_base=c.rope_parameters["rope_theta"],
        final_rms=True,
        gated_mlp=True,
        original_architecture="LlamaForCausalLM",
    )
    model = HookedSAETransformer(config)
    model.load_and_process_state_dict(convert_llama_weights(plain, config), fold_ln=True, center_writing_weights=False, center_unembed=False)
    return model.eval()


model = hooked()
# unit decoders and this flag: its folding of their norms changes nothing, and without the flag it refuses TopK dictionaries
sae = TopKSAE(TopKSAEConfig(d_in=W_enc.shape[1], d_sae=len(W_enc), k=k, apply_b_dec_to_input=False, rescale_acts_by_decoder_norm=True))
sae.load_state_dict({"W_enc": W_enc.T.contiguous(), "W_dec": W_dec, "b_enc": b_enc, "b_dec": torch.zeros(W_enc.shape[1])})
with torch.inference_mode():
    model(tokens[:2], stop_at_layer=layer + 1)

with tempfile.TemporaryDirectory() as folder:
    times: list[float] = []
    shown: dict[int, list[float]] = {}
    raised: dict[int, list[int]] = {}
    for batch in range(batches):
        features = list(range(batch * FEATURES, (batch + 1) * FEATURES))
        config = SaeVisConfig(
            hook_point=f"blocks.{layer}.hook_resid_post",
            features=features,
            minibatch_size_features=FEATURES,
            cache_dir=Path(folder) / "cache" if "cached" in sys.argv else None,
        )
        start = time.perf_counter()
        found = SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
        found.save_json(Path(folder) / f"{batch}.json")
        times.append(time.perf_counter() - start)
        for feature, its in found.feature_data_dict.items():
            top = its.sequence_data.seq_group_data[0].seq_data
            shown[feature] = [each.feat_acts[BUFFER] for each in top]
            raised[feature] = its.logits_table_data.top_token_ids
n = max(map(len, shown.values()))
padded = np.array([[*shown[feature], *[0.0] * (n - len(shown[feature]))] for feature in sorted(shown)])
np.savez(out, shown=padded, raised=np.array([raised[feature] for feature in sorted(raised)]))
print(json.dumps({"seconds": times}))
