"""Where training starts: the scale of the inputs, the decoder's bias, and the rows."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from microtome.dictionaries.kernels import Weights
from microtome.errors import NotEnoughTokens
from microtome.shapes import Float, Tensor
from microtome.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Start:
    """What every learning rate begins from."""

    weights: Weights
    """In scaled units; not to be written into."""
    input_scale: float


def start_from(rows: Float[Tensor, "n d_in"], config: TrainConfig) -> Start:
    """The start that a sample of rows gives.

    The scale makes the root mean square distance from the mean √d, so a scaled input has variance 1 a column on average. (Scaling the raw norm to √d,
    as Anthropic's April 2024 update does, leaves little variance where the mean is large, as it is in a residual stream.) The decoder's rows are
    random directions, the encoder's the same ones at `encoder_norm`.
    """
    sample = rows.float()
    mean, d_in = sample.mean(0), sample.shape[1]
    spread = float((sample - mean).square().sum(1).mean())
    if not math.isfinite(spread) or spread <= 0:
        do = "Harvest more documents, or another site."
        raise NotEnoughTokens("the activations do not vary.", got=f"variance {spread} over {len(rows)} rows", wanted="above 0", do=do)
    scale = math.sqrt(d_in / spread)
    centre = geometric_median(sample * scale) if config.init == "geometric_median" else mean * scale
    generator = torch.Generator().manual_seed(config.seed)
    directions = F.normalize(torch.randn(config.d_dict, d_in, generator=generator), dim=1).to(rows.device)
    bias = torch.zeros(config.d_dict, device=rows.device)
    weights = Weights(W_enc=directions * config.encoder_norm, W_dec=directions, b_enc=bias, b_dec=centre)
    return Start(weights=weights, input_scale=scale)


def geometric_median(rows: Float[Tensor, "n d"], *, iterations: int = 100, tolerance: float = 1e-5) -> Float[Tensor, "d"]:
    """The point with the least sum of distances to the rows (Weiszfeld 1937); far rows pull no harder than near ones."""
    point = rows.mean(0)
    for _ in range(iterations):
        weight = 1 / (rows - point).norm(dim=1).clamp_min(1e-6)
        moved = weight @ rows / weight.sum()
        shift = float((moved - point).norm() / (1e-12 + moved.norm()))
        point = moved
        if shift < tolerance:
            break
    return point
