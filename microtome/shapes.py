"""Shapes: the axis names that annotations use, so that one name means one thing everywhere.

| axis | meaning |
|---|---|
| `batch` | sequences in a padded batch |
| `pos` | positions in a padded sequence |
| `n` | tokens (rows) without padding |
| `d_model` | width of the residual stream |
| `d_in`, `d_out` | widths that a dictionary reads and writes |
| `d_dict` | features of a dictionary |
| `k` | active features a token |
| `nnz` | active (token, feature) pairs |

Annotations are checked when the tests run (jaxtyping with beartype) and cost nothing otherwise.
"""

from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Num", "Shaped", "Tensor"]
