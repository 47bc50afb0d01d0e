"""What is said of a feature's measured effect: frozen records like those in `records.py`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TokenShift:
    """One vocabulary entry whose probability changes."""

    token: int
    piece: str
    before: float
    """Its probability in the unedited model, averaged over the examples."""
    change: float
    """By how much that changes, averaged over the examples."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to the next token when a feature's activations in a context are multiplied by `factor`."""

    factor: float
    """0: ablated. 2: doubled."""
    kl: float
    """KL(edited ‖ unedited) of the next token after the example's peak, in nats, averaged over the examples …"""
    kl_low: float
    kl_high: float
    """… with its 95 % interval (bootstrap over the examples)."""
    control: float
    """The same for another feature's direction, made as long, a different one for each example …"""
    control_low: float
    control_high: float
    larger: int
    """Examples in which the feature changes more than the control does."""
    loss: float | None
    """Change of −log p of the token that really follows, in nats; None where no example has one."""
    promoted: tuple[TokenShift, ...]
    """Tokens that become likelier, by the change of their probability."""
    suppressed: tuple[TokenShift, ...]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The measured effect of a feature on the output, on its own strongest examples."""

    index: str
    feature: int
    label: str
    model: str
    """The model that was run, with its quantisation."""
    n: int
    """Examples, one a document."""
    activation: float
    """Mean activation at their peaks."""
    size: float
    """Length of what the feature writes there, averaged: activation × decoder norm."""
    changes: tuple[Change, ...]
