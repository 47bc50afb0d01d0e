"""With delphi's own cache and loader: write a cache of its own, and open what microtome writes. `python delphi_.py make|open FOLDER`.

`faiss` and `sentence_transformers`, which its sampling of hard negatives needs and reading does not, are stood in for by empty modules.
"""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

for name in ("faiss", "sentence_transformers"):
    sys.modules[name] = ModuleType(name)
sys.modules["sentence_transformers"].SentenceTransformer = object

import torch  # noqa: E402
from delphi.config import CacheConfig, ConstructorConfig, SamplerConfig  # noqa: E402
from delphi.latents.cache import InMemoryCache, LatentCache  # noqa: E402
from delphi.latents.loader import LatentDataset  # noqa: E402


def make(folder: Path) -> None:
    """4 contexts of 8 tokens, 10 latents: latent i is active on token t with i + t / 8 + 1 where (i + t) % 5 is 0."""
    tokens = torch.arange(32).reshape(4, 8)
    latents = torch.zeros(4, 8, 10)
    for i in range(10):
        for t in range(32):
            if (i + t) % 5 == 0:
                latents[t // 8, t % 8, i] = i + t / 8 + 1
    cache = LatentCache.__new__(LatentCache)
    cache.cache, cache.width = InMemoryCache(batch_size=2), 10
    for batch in range(2):
        cache.cache.add(latents[2 * batch : 2 * batch + 2], tokens[2 * batch : 2 * batch + 2], batch, "layers.3.mlp")
    cache.cache.save()
    cache.save_splits(2, folder / "latents")
    cache.save_config(folder / "latents", CacheConfig(cache_ctx_len=8, n_tokens=32, n_splits=2), "tiny")


def open_(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    (hookpoint,) = (folder / "delphi/latents").iterdir()
    dense = np.load(folder / "dense.npy")
    data = LatentDataset(
        str(folder / "delphi/latents"), SamplerConfig(), ConstructorConfig(), tokenizer="none is asked for", modules=[hookpoint.name]
    )
    context, n = data.cache_config["cache_ctx_len"], data.cache_config["n_tokens"]
    assert np.array_equal(data.tokens.numpy().reshape(-1)[:n], np.load(folder / "tokens.npy"))
    found, seen = np.zeros_like(dense), 0
    for buffer in data.buffers:
        for latent in buffer:
            where, values = latent.activation_data.locations, latent.activation_data.activations
            found[(where[:, 0] * context + where[:, 1]).numpy(), latent.latent.latent_index] = values.float().numpy()
            seen += 1
    assert np.array_equal(found, dense), "the activations it loads are not those of the index"
    print(json.dumps({"latents loaded": seen, "activations": int((found > 0).sum()), "of features": len(expected)}))


{"make": make, "open": open_}[sys.argv[1]](Path(sys.argv[2]))
