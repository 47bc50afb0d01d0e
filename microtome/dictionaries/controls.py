"""Controls: dictionaries that learned nothing, shown beside every quality figure."""

from typing import final

import torch
import torch.nn.functional as F

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.sae import SAE
from microtome.models import Site
from microtome.shapes import Float, Tensor


def random_like(dictionary: SAE, *, seed: int = 0) -> SAE:
    """An untrained dictionary of the same size, nonlinearity, scale and biases: unit decoder rows at random, tied encoder rows.

    The tied encoder is multiplied by the gain that makes k of d_dict random directions reconstruct best on isotropic inputs,
    so the control is a dictionary that was well initialised, not one that was broken.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(dictionary.d_dict, dictionary.d_in, generator=generator), dim=1)
    codes = dictionary.nonlinearity(torch.randn(256, dictionary.d_in, generator=generator) @ rows.T, {})
    bags = F.embedding_bag(codes.indices, rows, per_sample_weights=codes.values, mode="sum")
    gain = float((codes.values.square().sum()) / bags.square().sum().clamp_min(1e-12))
    weights = {"W_enc": rows * gain, "W_dec": rows, "b_enc": torch.zeros(dictionary.d_dict), "b_dec": dictionary.b_dec.clone().cpu()}
    made = SAE(site=dictionary.reads, nonlinearity=dictionary.nonlinearity, weights=weights, input_scale=dictionary.input_scale)
    return made.to(dictionary.W_enc.device)


@final
class MeanDictionary(Dictionary):
    """Reconstructs every row as one vector and has one feature that is never active. Its FVU on the rows of that mean is 1."""

    pooling = "token"

    def __init__(self, mean: Float[Tensor, "d_in"], *, site: Site) -> None:
        self.reads = site
        self.writes = (site,)
        self.mean = mean
        self.d_in = self.d_out = len(mean)
        self.d_dict = 1

    def to(self, device: torch.device | str) -> "MeanDictionary":
        """The same control with its mean on another device."""
        return MeanDictionary(self.mean.to(device), site=self.reads)

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCodes:
        self.fits(x)
        empty = torch.zeros(len(x), 1, device=x.device)
        return SparseCodes(empty.long(), empty, 1)

    def decode(self, codes: SparseCodes, *, write: Site | None = None) -> Float[Tensor, "n d_out"]:
        return self.mean.float().expand(codes.rows, self.d_out).clone()

    def directions(self, *, write: Site | None = None) -> Float[Tensor, "d_dict d_out"]:
        self.written(write)
        return torch.zeros(1, self.d_out, device=self.mean.device)

    def encoder_directions(self) -> Float[Tensor, "d_dict d_in"]:
        return torch.zeros(1, self.d_in, device=self.mean.device)
