"""What the fixtures of all formats share: sizes, inputs, weights, and how outputs are stored. Run by a peer's own interpreter."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

D_IN, D_DICT, ROWS, K, LAYERS = 8, 16, 6, 4, 3
Outputs = Callable[[Path, torch.Tensor], dict[str, torch.Tensor]]


def inputs() -> torch.Tensor:
    """Six rows, different for every reader of this file's seed but the same for all peers."""
    return torch.randn(ROWS, D_IN, generator=torch.Generator().manual_seed(7))


def fill(module: torch.nn.Module, *, seed: int) -> None:
    """Weights that leave some features active and some not; thresholds and decoder norms that differ between features."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(module.named_parameters()):
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
            if "threshold" in name:
                weight.abs_()


def store(folder: Path, case: str, **outputs: torch.Tensor) -> None:
    """Put a case's inputs and outputs beside its folder."""
    save_file({name: value.detach().contiguous() for name, value in outputs.items()}, folder / f"{case}.expected.safetensors")


def main(make: Callable[[Path], None], outputs: Outputs) -> None:
    """`make DIR` writes the peer's files and outputs; `open DIR` lets the peer open each folder in DIR and stores what it puts out."""
    verb, folder = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(0)
    if verb == "make":
        make(folder)
        return
    for case in sorted(path for path in folder.iterdir() if path.is_dir()):
        x = load_file(folder / f"{case.name}.inputs.safetensors")["x"]
        store(folder, case.name, **outputs(case, x))
