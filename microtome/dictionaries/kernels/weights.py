"""The four tensors of a sparse autoencoder, in scaled units, as the kernels take and give them."""

from typing import NamedTuple

from microtome.shapes import Float, Tensor


class Weights(NamedTuple):
    """Weights, or a gradient of each."""

    W_enc: Float[Tensor, "d_dict d_in"]
    W_dec: Float[Tensor, "d_dict d_in"]
    b_enc: Float[Tensor, "d_dict"]
    b_dec: Float[Tensor, "d_in"]
