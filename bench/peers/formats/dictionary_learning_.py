"""dictionary_learning: what its classes write and put out. Its imports of nnsight and datasets, which the classes do not use, are stubbed."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

for absent in ("nnsight", "datasets", "zstandard", "wandb"):
    module = ModuleType(absent)
    module.__getattr__ = lambda name: MagicMock()  # type: ignore[method-assign]
    sys.modules[absent] = module

import torch  # noqa: E402
from dictionary_learning import dictionary as kinds  # noqa: E402
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE  # noqa: E402
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE  # noqa: E402
from dictionary_learning.trainers.top_k import AutoEncoderTopK  # noqa: E402
from dictionary_learning.utils import load_dictionary  # noqa: E402
from sample import D_DICT, D_IN, K, fill, inputs, main, store  # noqa: E402


def cases() -> dict[str, Any]:
    return {
        "auto_encoder": kinds.AutoEncoder(D_IN, D_DICT),
        "auto_encoder_new": kinds.AutoEncoderNew(D_IN, D_DICT),
        "topk": AutoEncoderTopK(D_IN, D_DICT, K),
        "batchtopk": BatchTopKSAE(D_IN, D_DICT, K),
        "batchtopk_unset": BatchTopKSAE(D_IN, D_DICT, K),
        "gated": kinds.GatedAutoEncoder(D_IN, D_DICT),
        "jumprelu": kinds.JumpReluAutoEncoder(D_IN, D_DICT),
        "matryoshka": MatryoshkaBatchTopKSAE(D_IN, D_DICT, K, [4, 4, 8]),
    }


def outputs(folder: Path, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Its own loader's, but for the plain autoencoder, whose activations that loader rescales by the decoder's norms."""
    config = json.loads((folder / "config.json").read_text())
    if config["trainer"]["dict_class"] == "AutoEncoder":
        coder: Any = kinds.AutoEncoder.from_pretrained(folder / "ae.pt", normalize_decoder=False)
    else:
        coder, _ = load_dictionary(str(folder), device="cpu")
    with torch.no_grad():
        codes = coder.encode(x)
        return {"x": x, "codes": codes, "y": coder.decode(codes)}


def make(folder: Path) -> None:
    own = folder / "dictionary_learning"
    for seed, (case, coder) in enumerate(cases().items()):
        fill(coder, seed=80 + seed)
        if case in ("batchtopk", "matryoshka"):
            coder.threshold.fill_(0.7)
        trainer = {"dict_class": type(coder).__name__, "activation_dim": D_IN, "dict_size": D_DICT, "layer": 2, "lm_name": "tiny", "lr": 1e-3}
        trainer |= {"submodule_name": "resid_post_layer_2"} | ({"k": K} if "topk" in case or case == "matryoshka" else {})
        (own / case).mkdir(parents=True)
        (own / case / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"d_submodule": D_IN, "io": "out", "ctx_len": 64}}))
        torch.save(coder.state_dict(), own / case / "ae.pt")
        store(own, case, **outputs(own / case, inputs()))


if __name__ == "__main__":
    main(make, outputs)
