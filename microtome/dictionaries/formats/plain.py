"""The common ground of all foreign formats: a dictionary without scales, in the model's own units.

    pre = W_enc (x − c b_dec) + b_enc        a = nonlinearity(pre)        y = W_decᵀ a + b_dec + W_skip x

with c = 1 where `centred`, else 0. A feature is a row of `W_enc` and of `W_dec`. `plain_of` folds our scales into the weights, `build` makes our
dictionary, `with_centring` moves b_dec between the input and the encoder's bias, `with_gain` the gain of a norm into the encoder. All are identities
of algebra: codes and outputs stay the same up to the rounding of fp32, and to the bit where there is nothing to fold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats.format import Hints, cannot_hold
from microtome.dictionaries.formats.hooks import Hook
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import Gated, Nonlinearity, nonlinearity_name
from microtome.dictionaries.sae import SAE
from microtome.dictionaries.transcoder import Transcoder
from microtome.errors import DictionaryInvalid, HookUnknown
from microtome.models import Site
from microtome.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class Plain:
    """See the top of this file."""

    reads: Site
    writes: tuple[Site, ...]
    nonlinearity: Nonlinearity
    weights: dict[str, Tensor]
    """`W_enc [d_dict, d_in]`, `W_dec [d_dict, d_out]` or `[d_dict, writes, d_out]`, `b_enc`, `b_dec`, the nonlinearity's own, perhaps `W_skip`."""
    centred: bool = False

    @property
    def is_sae(self) -> bool:
        """Whether it reads and writes one site, with nothing past the features."""
        return self.writes == (self.reads,) and self.weights["W_dec"].ndim == 2 and "W_skip" not in self.weights

    @property
    def kind(self) -> str:
        """The registered name of its nonlinearity."""
        return nonlinearity_name(self.nonlinearity)

    def build(self) -> SAE | Transcoder:
        """Our dictionary with these weights."""
        if self.is_sae:
            return SAE(site=self.reads, nonlinearity=self.nonlinearity, weights=self.weights, input_scale=1.0, centred=self.centred)
        plain = with_centring(self, centred=False)
        return Transcoder(reads=plain.reads, writes=plain.writes, nonlinearity=plain.nonlinearity, weights=plain.weights)


def plain_of(dictionary: Dictionary | DictionarySet, *, format_name: str) -> Plain:
    """The dictionary without its scales; `FormatCannotHold` for a kind or pooling that no foreign format has."""
    if not isinstance(dictionary, SAE | Transcoder):
        raise cannot_hold(format_name, f"a {type(dictionary).__name__}", wanted="an SAE or a transcoder")
    if dictionary.pooling != "token":
        raise cannot_hold(format_name, f'the pooling "{dictionary.pooling}"', wanted="a dictionary of tokens")
    into, out = dictionary.input_scale, dictionary.input_scale if isinstance(dictionary, SAE) else dictionary.output_scale
    factors = {"W_enc": into, "W_dec": 1 / out, "b_dec": 1 / out, "W_skip": into / out}
    weights = {name: weight.cpu() * factors.get(name, 1.0) for name, weight in dictionary.weights().items()}
    if len(dictionary.writes) == 1:  # a transcoder may give its only write an axis
        weights |= {"W_dec": weights["W_dec"].reshape(-1, dictionary.d_out), "b_dec": weights["b_dec"].reshape(-1)}
    centred = isinstance(dictionary, SAE) and dictionary.centred
    return Plain(reads=dictionary.reads, writes=dictionary.writes, nonlinearity=dictionary.nonlinearity, weights=weights, centred=centred)


def with_centring(plain: Plain, *, centred: bool) -> Plain:
    """The same function with or without b_dec subtracted from the input: the encoder's biases take up W_enc b_dec."""
    if plain.centred == centred:
        return plain
    if not plain.is_sae:
        what = "the input of a transcoder is not centred on its output's bias."
        raise DictionaryInvalid(what, got="centred", wanted="not centred", do="Check the file's origin.")
    moved = (plain.weights["W_enc"] @ plain.weights["b_dec"]) * (1 if centred else -1)
    weights = {**plain.weights, "b_enc": plain.weights["b_enc"] + moved}
    if isinstance(plain.nonlinearity, Gated):
        weights["b_mag"] = plain.weights["b_mag"] + plain.weights["r_mag"].exp() * moved
    return replace(plain, weights=weights, centred=centred)


def hook_read(hints: Hints, said: Callable[[], Hook]) -> Hook:
    """Where a dictionary reads: what the caller says, else what the files say."""
    return said() if hints.reads is None else Hook(hints.reads)


def with_gain(plain: Plain, hook: Hook, hints: Hints) -> Plain:
    """At a hook before a norm's gain g the values are x / g: the encoder's columns are divided by g (and an SAE's decoder multiplied)."""
    if not hook.before_gain:
        return plain
    if hints.gain is None:
        do = f"Give gain=…, a function that returns the gain of the norm before {hook.site}; ones where the model's norm was folded."
        raise HookUnknown("the dictionary reads between a norm's scale and its gain, where no site is.", got="no gain", wanted="its gain", do=do)
    gain = hints.gain(hook.site).float().cpu()
    divided = {name: plain.weights[name] / gain for name in ("W_enc", "W_skip") if name in plain.weights}
    multiplied = {name: plain.weights[name] * gain for name in ("W_dec", "b_dec") if plain.is_sae}
    return replace(plain, weights={**plain.weights, **divided, **multiplied})


def nonnegative(threshold: Float[Tensor, "d_dict"]) -> Float[Tensor, "d_dict"]:
    """The threshold that means the same without the ReLU that SAELens and dictionary_learning apply first."""
    return threshold.clamp_min(0.0)


def check_nonnegative(plain: Plain, *, format_name: str) -> None:
    """Raise `FormatCannotHold` for a negative JumpReLU threshold, which lets negative activations through: a ReLU comes first there."""
    threshold = plain.weights.get("threshold", torch.zeros(1))
    if bool((threshold < 0).any()):
        raise cannot_hold(format_name, f"a threshold of {float(threshold.min()):g}", wanted="thresholds from 0")


def row(values: Tensor, size: int) -> Float[Tensor, "d_dict"]:
    """A scalar as one number for each feature."""
    return values.float().reshape(1).repeat(size)
