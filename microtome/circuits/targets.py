"""Targets: what a graph explains. Each is a value that says where it is read; several can be traced at once.

Every target is a linear function of what the model reads at one site and position. Logits are taken before a final soft cap, less the mean logit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch

from microtome.circuits.replacement import Replacement
from microtome.dictionaries import SAE
from microtome.directions import Direction
from microtome.errors import ConfigError, ModelUnsupported, TargetInvalid
from microtome.models import Model, Site
from microtome.shapes import Float, Int, Tensor


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The likeliest next tokens at a position: as many as hold `mass` of the probability, at most `most`; or `tokens`, each a text or an id."""

    position: int = -1
    """Place in the prompt; negative ones count from its end."""
    mass: float = 0.95
    most: int = 10
    tokens: tuple[str | int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1 or self.most < 1:
            raise ConfigError("Logits has an unfit value.", got=(self.mass, self.most), wanted="mass in (0, 1], most from 1", do="Correct it.")


@dataclass(frozen=True, kw_only=True)
class LogitDifference:
    """One next token's logit less another's."""

    token: str | int
    against: str | int
    position: int = -1


@dataclass(frozen=True, kw_only=True)
class FeatureTarget:
    """The pre-activation of a feature that is active there."""

    layer: int
    feature: int
    position: int = -1


@dataclass(frozen=True, kw_only=True)
class Along:
    """The coordinate of what is read at the direction's site along it (a probe, a persona), as `Direction.project` gives it."""

    direction: Direction
    position: int = -1


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The cross-entropy of the token after a position, in nats, to first order: Σ_v (p_v − 1[v is the token]) logit_v with the p of the model held.

    Where the model caps its logits softly, each term has the cap's slope beside it.
    """

    position: int = -2
    token: str | int | None = None
    """Another token than the prompt's own next one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TurnFeature:
    """A feature of a turn-averaged dictionary in a turn: ⟨encoder, mean of what is read at the turn's tokens⟩ + bias.

    Each of the turn's n tokens contributes 1/n of its own reading, so it is traced as n targets of weight 1/n, whose mean is the pre-activation;
    `by_columns` makes one row of them.
    """

    dictionary: SAE
    """With pooling over turns."""
    feature: int
    start: int
    """First token of the turn's content,"""
    stop: int
    """and one past its last."""

    @property
    def position(self) -> int:
        """The last token."""
        return self.stop - 1


Target: TypeAlias = Logits | LogitDifference | FeatureTarget | Along | Loss | TurnFeature


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Linear functions of the residual stream, each at one place and position."""

    place: Int[Tensor, "n"]
    """See `Reading`."""
    position: Int[Tensor, "n"]
    vector: Float[Tensor, "n d_model"]
    """The gradient by the stream."""
    constant: Float[Tensor, "n"]
    """What the value has from biases of its own and of the norm it is read after."""
    layer: Int[Tensor, "n"]
    """Whose `read` bias that is: the layer of the reading, the number of layers for the final norm."""
    pre: Float[Tensor, "n"]
    """The value in the clean forward."""

    def __len__(self) -> int:
        return len(self.place)

    def take(self, which: Int[Tensor, "m"]) -> "Rows":
        """Some of them."""
        return Rows(**{name: getattr(self, name)[which] for name in self.__dataclass_fields__})


class Named(NamedTuple):
    """What a target's node says."""

    label: str
    position: int
    token: int
    """The vocabulary id of a logit; −1 for others."""
    probability: float
    """Of a logit; 1 for others."""


class Readings(NamedTuple):
    """A site's readings at positions, of which the rows are linear functions."""

    site: Site
    positions: Int[Tensor, "n"]
    vectors: Float[Tensor, "n width"]
    biases: Float[Tensor, "n"]


def targets_of(target: Target | str | Sequence[Target] | None) -> list[Target]:
    """None means the likeliest next tokens, a text one next token."""
    if target is None:
        return [Logits()]
    if isinstance(target, str):
        return [Logits(tokens=(target,))]
    targets = list(target) if isinstance(target, Sequence) else [target]
    if not targets:
        raise ConfigError("there is no target.", got="an empty list", wanted="one or more targets", do="Leave it out for the likeliest next tokens.")
    return targets


def positions_of(targets: Sequence[Target], n_tokens: int) -> list[int]:
    """The position of each target, counted from the start; `TargetInvalid` beyond the prompt."""
    found: list[int] = []
    for target in targets:
        at = target.position + n_tokens if target.position < 0 else target.position
        if not 0 <= at < n_tokens:
            got, wanted = target.position, f"0 to {n_tokens - 1}, or −{n_tokens} to −1"
            raise TargetInvalid(f"there is no position {target.position} in the prompt.", got=got, wanted=wanted, do="Choose one of its tokens.")
        found.append(at)
    return found


def sites_of(targets: Sequence[Target]) -> set[Site]:
    """Where directions are read."""
    directions = {target.direction.site for target in targets if isinstance(target, Along)}
    return directions | {target.dictionary.reads for target in targets if isinstance(target, TurnFeature)}


def token_id(model: Model, token: str | int) -> int:
    """The id of one token, given itself or the text that it stands for; else `TargetInvalid`."""
    if isinstance(token, int):
        if not 0 <= token < model.n_vocab:
            got, wanted = token, f"0 to {model.n_vocab - 1}"
            raise TargetInvalid("a target token is not in the vocabulary.", got=got, wanted=wanted, do="Give an id of this model's tokenizer.")
        return token
    ids = model.tokenizer.encode(token)
    if len(ids) != 1:
        pieces = " + ".join(repr(piece) for piece in model.tokenizer.decode_pieces(ids)[:8]) or "nothing"
        do = "Give the first of them, or an id; mind the space before a word."
        raise TargetInvalid(f"{token!r} is not a single token.", got=f"{len(ids)} tokens: {pieces}", wanted="one token", do=do)
    return ids[0]


def rows_of(replacement: Replacement, targets: Sequence[Target]) -> tuple[Rows, list[Named]]:
    """The rows of the targets, and what their nodes say. Raises `TargetInvalid` and what `Direction.fits` does."""
    made: list[Rows] = []
    names: list[Named] = []
    for target, position in zip(targets, positions_of(targets, replacement.n_tokens), strict=True):
        match target:
            case Logits():
                rows, named = _logits(replacement, target, position)
            case LogitDifference():
                rows, named = _difference(replacement, target, position)
            case FeatureTarget():
                rows, named = _feature(replacement, target, position)
            case Along():
                rows, named = _along(replacement, target, position)
            case Loss():
                rows, named = _loss(replacement, target, position)
            case TurnFeature():
                rows, named = _turn_feature(replacement, target)
        made.append(rows)
        names += named
    return joined(made), names


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows after each other."""
    return Rows(**{name: torch.cat([getattr(part, name) for part in parts]) for name in Rows.__dataclass_fields__})


def feature_rows(replacement: Replacement, nodes: Int[Tensor, "n"]) -> Rows:
    """The rows of active features: pre-activation = ⟨encoder, what is read⟩ + b_enc."""
    features, parts = replacement.features, list[Rows]()
    order = nodes.sort().values
    for layer, member in replacement.members.items():
        first, last = replacement.span(layer)
        here = order[(order >= first) & (order < last)]
        if len(here):
            chosen = features.feature[here]
            vectors = (member.W_enc[chosen] * member.input_scale).to(replacement.dtype)
            readings = Readings(member.reads, features.position[here], vectors, member.b_enc[chosen].to(replacement.dtype))
            parts.append(read_rows(replacement, readings))
    return joined(parts)


def read_rows(replacement: Replacement, readings: Readings) -> Rows:
    """The rows of linear functions of what is read at a site: ⟨vector, what is read at the position⟩ + bias."""
    site, positions, vectors, biases = readings
    reading = replacement.reading(site)
    assert reading is not None
    layer = replacement.n_layers if site.kind == "final_norm" else site.layer
    return Rows(
        place=torch.full_like(positions, reading.place),
        position=positions,
        vector=reading.back(vectors, positions),
        constant=biases + reading.constant(vectors),
        layer=torch.full_like(positions, 0 if layer is None else layer),
        pre=(replacement.read(site)[positions] * vectors).sum(-1) + biases,
    )


def _final(replacement: Replacement, vectors: Float[Tensor, "n d_model"], biases: Float[Tensor, "n"], *, position: int) -> Rows:
    positions = torch.full((len(vectors),), position, device=vectors.device)
    return read_rows(replacement, Readings(Site("final_norm"), positions, vectors, biases))


def _head(replacement: Replacement) -> tuple[Tensor, Tensor]:
    """The unembedding, and its bias (zeros where there is none)."""
    head = replacement.model.hf.get_output_embeddings()
    if head is None:
        model = replacement.model
        raise ModelUnsupported(f"{model.ref} has no unembedding.", got=model.family, wanted="a language model head", do="Use a causal LM.")
    weight, bias = head.weight.detach(), getattr(head, "bias", None)
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.detach()


def _logits(replacement: Replacement, target: Logits, position: int) -> tuple[Rows, list[Named]]:
    model = replacement.model
    probabilities = replacement.frozen.logits[position].softmax(-1)
    if target.tokens:
        ids = torch.tensor([token_id(model, token) for token in target.tokens], device=model.device)
    else:
        best = probabilities.topk(min(target.most, len(probabilities)))
        enough = int((best.values.cumsum(0) < target.mass).sum()) + 1
        ids = best.indices[:enough]
    weight, bias = _head(replacement)
    kind = replacement.dtype
    vectors, biases = weight[ids].to(kind) - weight.to(kind).mean(0), bias[ids].to(kind) - bias.to(kind).mean()
    names = [_logit_name(model, int(token), position=position, probability=float(probabilities[token])) for token in ids]
    return _final(replacement, vectors, biases, position=position), names


def _logit_name(model: Model, token: int, *, position: int, probability: float) -> Named:
    return Named(f'logit."{_shown(model, token)}"@{position}', position, token, probability)


def _shown(model: Model, token: int) -> str:
    """A token's text; its number where it belongs to no text."""
    return model.tokenizer.text([token]) if token < len(model.tokenizer) else f"#{token}"


def _difference(replacement: Replacement, target: LogitDifference, position: int) -> tuple[Rows, list[Named]]:
    model = replacement.model
    one, other = token_id(model, target.token), token_id(model, target.against)
    weight, bias = _head(replacement)
    vector, constant = (weight[one] - weight[other]).to(replacement.dtype), (bias[one] - bias[other]).to(replacement.dtype)
    words = [_shown(model, token) for token in (one, other)]
    named = Named(f'logit."{words[0]}" − logit."{words[1]}"@{position}', position, -1, 1.0)
    return _final(replacement, vector[None], constant[None], position=position), [named]


def _feature(replacement: Replacement, target: FeatureTarget, position: int) -> tuple[Rows, list[Named]]:
    features = replacement.features
    here = (features.layer == target.layer) & (features.position == position)
    found = (here & (features.feature == target.feature)).nonzero()[:, 0]
    if not len(found):
        active = ", ".join(map(str, features.feature[here][:12].tolist()))
        what = f"feature {target.feature} of layer {target.layer} is not active at position {position}."
        raise TargetInvalid(what, got=f"L{target.layer}.f{target.feature}@{position}", wanted=f"one of: {active or 'none is active there'}", do=_PICK)
    label = f"L{target.layer}.f{target.feature}@{position}"
    return feature_rows(replacement, found), [Named(label, position, -1, 1.0)]


def _along(replacement: Replacement, target: Along, position: int) -> tuple[Rows, list[Named]]:
    direction = target.direction
    direction.fits(replacement.model)
    _reached(replacement, direction.site)
    device = replacement.model.device
    vector = direction.unit_vector.to(device=device, dtype=replacement.dtype)[None]
    readings = Readings(direction.site, torch.tensor([position], device=device), vector, vector.new_zeros(1))
    return read_rows(replacement, readings), [Named(f"{direction.name} along {direction.site}@{position}", position, -1, 1.0)]


def _turn_feature(replacement: Replacement, target: TurnFeature) -> tuple[Rows, list[Named]]:
    sae, n = target.dictionary, target.stop - target.start
    if sae.pooling == "token" or not 0 <= target.start < target.stop <= replacement.n_tokens or not 0 <= target.feature < sae.d_dict:
        got = f"feature {target.feature} of a dictionary per {sae.pooling}, tokens {target.start} to {target.stop - 1}"
        wanted = f"a feature of a dictionary of turns, and tokens among {replacement.n_tokens}"
        raise TargetInvalid("there is no such feature of a turn.", got=got, wanted=wanted, do="Give a turn-averaged SAE and a turn of the prompt.")
    _reached(replacement, sae.reads)
    device, kind = replacement.model.device, replacement.dtype
    vector = sae.encoder_direction(target.feature).to(device=device, dtype=kind)
    bias = sae.b_enc[target.feature] - (sae.W_enc[target.feature] @ sae.b_dec if sae.centred else 0)
    positions = torch.arange(target.start, target.stop, device=device)
    readings = Readings(sae.reads, positions, vector.expand(n, -1), bias.to(device=device, dtype=kind).expand(n))
    return read_rows(replacement, readings), [Named(f"{sae.reads}.f{target.feature}@{at}", at, -1, 1 / n) for at in positions.tolist()]


def _reached(replacement: Replacement, site: Site) -> None:
    if replacement.reading(site) is None or site not in replacement.frozen.clean:
        wanted = "resid_pre, attn_in, resid_mid, mlp_in, resid_post or final_norm"
        raise TargetInvalid(f"a graph cannot reach {site}.", got=site, wanted=wanted, do="Choose a site of the residual stream.")


def _loss(replacement: Replacement, target: Loss, position: int) -> tuple[Rows, list[Named]]:
    model, tokens = replacement.model, replacement.frozen.tokens
    if target.token is None and position + 1 >= replacement.n_tokens:
        do = "Choose an earlier position, or name the token: Loss(position=…, token=…)."
        raise TargetInvalid("no token follows the position whose loss is meant.", got=position, wanted=f"below {replacement.n_tokens - 1}", do=do)
    wanted = token_id(model, target.token) if target.token is not None else int(tokens[position + 1])
    weight, bias = _head(replacement)
    logits = replacement.frozen.logits[position].to(replacement.dtype)
    slope = logits.softmax(-1)
    slope[wanted] -= 1
    cap = getattr(model.hf.config.get_text_config(), "final_logit_softcapping", None)
    if cap:
        slope = slope * (1 - (logits / cap).square())
    vector, constant = slope @ weight.to(replacement.dtype), slope @ bias.to(replacement.dtype)
    named = Named(f'loss of "{_shown(model, wanted)}"@{position}', position, -1, 1.0)
    return _final(replacement, vector[None], constant[None], position=position), [named]


_PICK = "Choose a feature that is active there; a graph of a logit shows which are."
