"""The encoder as the dense product sees it: in a number type that need only find the active features; their values are computed again in fp32."""

from typing import Literal, final

import torch

from microtome.dictionaries.kernels import native
from microtome.dictionaries.kernels.quantised import Quantised
from microtome.shapes import Float, Tensor

Product = Literal["float32", "bfloat16", "int8"]
"""`int8` is the compiled kernel's; where that is not available a proposer for it uses fp32, which finds the same features."""


def pick_product(device: torch.device) -> Product:
    """`bfloat16` on a GPU and on a CPU with AVX-512 BF16 or AMX (elsewhere torch emulates it, ten times slower); else `int8` where `native` works."""
    if device.type != "cpu":
        return "bfloat16"
    has_unit = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if has_unit and capable:
        return "bfloat16"
    return "int8" if native.available() else "float32"


@final
class Proposer:
    """Encoder rows in the number type of the product. Call `refresh` after every change of the weights."""

    def __init__(self, W_enc: Float[Tensor, "d_dict d_in"], product: Product) -> None:
        self.product: Product = product
        self.table: Float[Tensor, "d_dict d_in"] = W_enc
        """`W_enc` itself, or its bf16 shadow."""
        if product == "bfloat16":
            self.table = W_enc.bfloat16()
        usable = W_enc.device.type == "cpu" and W_enc.dtype == torch.float32 and native.available()
        self.quantised: Quantised | None = Quantised(W_enc) if product == "int8" and usable else None
        """The int8 form, for the compiled kernel."""

    @torch.no_grad()
    def refresh(self, W_enc: Float[Tensor, "d_dict d_in"]) -> None:
        """Follow the weights."""
        if self.product == "bfloat16":
            self.table.copy_(W_enc)
        else:
            self.table = W_enc
        if self.quantised is not None:
            self.quantised.refresh(W_enc)
