"""The encoder as the dense product sees it: in a number type that need only find the active features; their values are computed again in fp32."""

from typing import Literal, final

import torch

from microtome.shapes import Float, Tensor

Product = Literal["float32", "bfloat16"]


def pick_product(device: torch.device) -> Product:
    """`bfloat16` where it is the faster one: on a GPU, and on a CPU with AVX-512 BF16 or AMX. Elsewhere torch emulates it, ten times slower."""
    if device.type != "cpu":
        return "bfloat16"
    has_unit = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if has_unit and capable else "float32"


@final
class Proposer:
    """Encoder rows in the number type of the product. Call `refresh` after every change of the weights."""

    def __init__(self, W_enc: Float[Tensor, "d_dict d_in"], product: Product) -> None:
        self.product: Product = product
        self.table: Float[Tensor, "d_dict d_in"] = W_enc
        """`W_enc` itself, or its bf16 shadow."""
        if product == "bfloat16":
            self.table = W_enc.bfloat16()

    @torch.no_grad()
    def refresh(self, W_enc: Float[Tensor, "d_dict d_in"]) -> None:
        """Follow the weights."""
        if self.product == "bfloat16":
            self.table.copy_(W_enc)
        else:
            self.table = W_enc
