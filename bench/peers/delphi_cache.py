"""delphi's own cache over given tokens: `delphi_cache.py MODEL material.npz LAYER K OUT`; prints seconds and memory.

Runs in bench/peers/exchange/.venv, with delphi's defaults: batches of 32 contexts, 5 splits on disk. The encoder is what its adapter for sparsify's
TopK coders computes: a dense product, the k largest, and a dense row for every token.
"""

import json
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np

for name in ("faiss", "sentence_transformers"):
    sys.modules[name] = ModuleType(name)
sys.modules["sentence_transformers"].SentenceTransformer = object

import torch  # noqa: E402
from delphi.latents.cache import LatentCache  # noqa: E402
from peak import beyond  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import AutoModel  # noqa: E402

model_path, material, layer, k, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
torch.set_num_threads(2)
with np.load(material) as held:
    tokens, W_enc, b_enc = (torch.from_numpy(held[each]) for each in ("tokens", "W_enc", "b_enc"))


def encode(x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    values, indices = torch.nn.functional.linear(rows, W_enc, b_enc).relu().topk(k, dim=-1, sorted=False)
    dense = torch.zeros(len(rows), len(W_enc), dtype=rows.dtype).scatter_(-1, indices, values)
    return dense.reshape(*x.shape[:-1], -1)


model = AutoModel.from_pretrained(model_path, dtype=torch.float32).eval()
with torch.no_grad():
    model(tokens[:2])
with beyond() as used:
    start = time.perf_counter()
    cache = LatentCache(model, {f"layers.{layer}": encode}, batch_size=32)
    cache.run(tokens.numel(), tokens)
    cache.save_splits(5, out)
    seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "bytes": used.bytes}))
