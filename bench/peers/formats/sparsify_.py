"""sparsify: what it writes and puts out."""

from pathlib import Path

import torch
from sample import D_DICT, D_IN, K, fill, inputs, main, store
from sparsify import SparseCoder, SparseCoderConfig

CASES = {
    "sae": ("layers.2", {"num_latents": D_DICT}),
    "by_factor": ("layers.1", {"expansion_factor": 2, "normalize_decoder": False}),
    "attention": ("layers.0.self_attn", {"num_latents": D_DICT, "multi_topk": True}),
    "transcoder": ("layers.2.mlp", {"num_latents": D_DICT, "transcode": True}),
    "skip_transcoder": ("layers.2.mlp", {"num_latents": D_DICT, "transcode": True, "skip_connection": True}),
}


def outputs(folder: Path, x: torch.Tensor) -> dict[str, torch.Tensor]:
    (hookpoint,) = (path.parent for path in folder.rglob("cfg.json"))
    coder = SparseCoder.load_from_disk(hookpoint)
    with torch.no_grad():
        values, indices, _ = coder.encode(x)
        codes = torch.zeros(len(x), coder.num_latents).scatter_(1, indices, values)
        y = coder.decode(values, indices)  # not its forward, which with `multi_topk` returns what 4 k latents reconstruct
        return {"x": x, "codes": codes, "y": y if coder.W_skip is None else y + x @ coder.W_skip.mT}


def make(folder: Path) -> None:
    own = folder / "sparsify"
    for seed, (case, (hookpoint, settings)) in enumerate(CASES.items()):
        coder = SparseCoder(D_IN, SparseCoderConfig(k=K, **settings))
        fill(coder, seed=60 + seed)
        coder.save_to_disk(own / case / hookpoint)
        store(own, case, **outputs(own / case, inputs()))


if __name__ == "__main__":
    main(make, outputs)
