"""circuit-tracer: what its transcoders write and put out. Only its graph files' module, which needs a whole model, is stubbed."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

graphs: Any = ModuleType("circuit_tracer.utils.create_graph_files")
graphs.create_graph_files = MagicMock()
sys.modules["circuit_tracer.utils.create_graph_files"] = graphs

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import yaml  # noqa: E402
from circuit_tracer.transcoder.activation_functions import JumpReLU  # noqa: E402
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder, load_clt, load_gemma_scope_2_clt  # noqa: E402
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet, load_transcoder_set  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from sample import D_DICT, D_IN, LAYERS, fill, inputs, main, store  # noqa: E402

HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}


def outputs(folder: Path, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """One tensor for all layers: `codes [layers, rows, features]`, `y [layers, rows, d]`; every layer reads rows of its own."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    hooks = {key: config[key] for key in HOOKS}
    settings: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32, "lazy_encoder": False, "lazy_decoder": False}
    made: Any
    if config["model_kind"] == "transcoder_set":
        paths = {layer: str(folder / f"layer_{layer}.safetensors") for layer in range(len(list(folder.glob("layer_*"))))}
        made = load_transcoder_set(paths, scan="tiny", **hooks, **settings)
    else:
        made = load_clt(str(folder), **hooks, **settings)
    return run(made, x)


def run(made: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    rows = each_layers(x, made.n_layers)
    with torch.no_grad():
        codes = made.encode(rows)
        y = made.decode(codes.to_sparse(), rows) if isinstance(made, CrossLayerTranscoder) else made.decode(codes, rows)
    return {"x": rows, "codes": codes, "y": y}


def each_layers(x: torch.Tensor, layers: int) -> torch.Tensor:
    """Rows of their own for every layer; what is stacked already stays."""
    return x if x.ndim == 3 else torch.stack([x * (1 + layer / 4) + layer / 10 for layer in range(layers)])


def make(folder: Path) -> None:
    own = folder / "circuit_tracer"
    cpu: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
    for seed, (case, jump, skip) in enumerate([("layers", False, False), ("layers_jumprelu_skip", True, True)]):
        members = {
            layer: SingleLayerTranscoder(D_IN, D_DICT, JumpReLU(torch.zeros(D_DICT)) if jump else F.relu, layer, skip_connection=skip, **cpu)
            for layer in range(LAYERS)
        }
        made = TranscoderSet(members, scan="tiny", **HOOKS)
        fill(made, seed=100 + seed)
        made.to_safetensors(str(own / case))
        finish(own, case, "transcoder_set")
    for seed, (case, jump, skip) in enumerate(
        [("cross_layer", False, False), ("cross_layer_jumprelu", True, False), ("cross_layer_skip", False, True)]
    ):
        clt = CrossLayerTranscoder(LAYERS, D_DICT, D_IN, "jump_relu" if jump else "relu", skip, lazy_decoder=False, **cpu)
        fill(clt, seed=110 + seed)
        clt.to_safetensors(str(own / case))
        if skip:  # this release writes no skip connection; later ones put it into the encoder's file, as it stands in memory
            for layer in range(LAYERS):
                file = own / case / f"W_enc_{layer}.safetensors"
                save_file({**load_file(file), f"W_skip_{layer}": clt.W_skip.data[layer].contiguous()}, file)
        (own / case / "config.yaml").write_text(yaml.safe_dump({"model_name": "tiny", "model_kind": "cross_layer_transcoder", **HOOKS}))
        store(own, case, **run(clt, inputs()))
    gemma_scope_2(folder)


def finish(own: Path, case: str, kind: str) -> None:
    (own / case / "config.yaml").write_text(yaml.safe_dump({"model_name": "tiny", "model_kind": kind, **HOOKS}))
    store(own, case, **outputs(own / case, inputs()))


def gemma_scope_2(folder: Path) -> None:
    """A cross-layer transcoder in Gemma Scope 2's shards. The reader stops before the last entry, so that it is named twice."""
    own = folder / "gemma_scope_2" / "gemma-scope-2-1b-pt"
    place = own / "clt" / "width_262k_l0_medium_affine"
    place.mkdir(parents=True)
    generator = torch.Generator().manual_seed(130)
    paths: dict[int, str] = {}
    for layer in range(LAYERS):
        shapes = {
            "w_enc": (D_IN, D_DICT),
            "w_dec": (D_DICT, LAYERS, D_IN),
            "b_enc": (D_DICT,),
            "b_dec": (D_IN,),
            "threshold": (D_DICT,),
            "affine_skip_connection": (D_IN, D_IN),
        }
        tensors = {name: torch.randn(shape, generator=generator) * 0.4 for name, shape in shapes.items()}
        tensors["threshold"].abs_()
        paths[layer] = str(place / f"params_layer_{layer}.safetensors")
        save_file(tensors, paths[layer])
    made = load_gemma_scope_2_clt(paths | {LAYERS: paths[LAYERS - 1]}, device=torch.device("cpu"), dtype=torch.float32)
    store(own, "clt.width_262k_l0_medium_affine", **run(made, inputs()))


if __name__ == "__main__":
    main(make, outputs)
