"""The kernels for CUDA devices, in Triton. Imported only where Triton is installed; `ops` sends CUDA tensors here."""

from microtome.dictionaries.kernels.torch_ops import adam, largest
from microtome.dictionaries.kernels.triton_encode import pairs_above, top_k_pairs
from microtome.dictionaries.kernels.triton_sums import decode, feature_sums, row_dots

__all__ = ["adam", "decode", "feature_sums", "largest", "pairs_above", "row_dots", "top_k_pairs"]
