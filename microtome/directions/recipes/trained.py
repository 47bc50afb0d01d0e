"""A trained steering vector: found by gradient so that, added to the stream, wanted continuations gain likelihood against others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from microtome.directions.direction import Direction
from microtome.directions.reading import Passage, Reader, tokens_of
from microtome.directions.recipes.contrast import mean_difference
from microtome.directions.recipes.recipe import Made, cosine, made_by, mean_norm, need, recipe, shuffled
from microtome.errors import ConfigError
from microtome.models import Model
from microtome.progress import Progress, Throttled
from microtome.shapes import Bool, Float, Int, Tensor
from microtome.stats import Result, bootstrap_ratio

_RATE, _MOMENTUM = 0.2, 0.7
"""Length of a first step, as a share of the largest length; weight of the steps before."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A prompt with a continuation that is wanted and one that is not."""

    prompt: Passage
    target: str
    against: str

    def __post_init__(self) -> None:
        if not self.target or not self.against or self.target == self.against:
            got = f"{self.target!r} and {self.against!r}"
            raise ConfigError("a preference needs two continuations that differ.", got=got, wanted="two texts", do="Give both.")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedMade(Made):
    """The vector with how training went."""

    losses: tuple[float, ...]
    """Of the training preferences, before each step and after the last; ln 2 is where training begins."""


@recipe("trained")
def trained(
    reader: Reader,
    *,
    preferences: Sequence[Preference],
    name: str = "trained",
    length: float = 0.3,
    steps: int = 30,
    seed: int = 0,
) -> TrainedMade:
    """The vector v that, added at every token of the reader's site, makes targets likelier against the others.

    With ℓ_v the log-likelihood of a continuation under x + v and ℓ_0 without, g = (ℓ_v(target) − ℓ_0(target)) − (ℓ_v(against) − ℓ_0(against)) is
    what a preference gains, in nats; training lowers the mean of −ln σ(g) (the loss of BiPO, Cao et al. 2024, 2406.00045, in one
    direction) on the first three quarters of the preferences (`fit_vector`), with ‖v‖ at most `length` times the mean length of the stream's tokens.
    The reader's span is not used.

    The figure is the mean g of the last quarter. Beside it stand, of equal length, a random vector, the difference of means of the same
    training continuations, and a vector trained by the same steps on preferences of which a random half is turned round (`shuffled`). Use it as
    `Add(component=direction, strength=raw(1))`. Raises `NotEnoughTokens` under 8 preferences.
    """
    need(preferences, at_least=8, what="preferences")
    if not (0 < length < 100 and steps > 0):
        raise ConfigError("a vector cannot be trained so.", got=f"length {length:g}, {steps} steps", wanted="both above 0", do="Correct it.")
    cut = 3 * len(preferences) // 4
    known, held = (_Pairs.of(reader.model, some) for some in (preferences[:cut], preferences[cut:]))
    texts = _sides(reader, known)
    limit = length * mean_norm(torch.cat(texts))
    found = fit_vector(reader, known, limit=limit, steps=steps, progress=reader.progress)
    turned = known.turned_half(seed=seed)
    mixed = fit_vector(reader, turned, limit=limit, steps=steps, progress=reader.progress)
    direction = Direction(
        name=name,
        site=reader.site,
        vector=found.vector,
        sign=f"towards {name}",
        reference="the continuations that are not wanted",
        model=reader.model.fingerprint,
        provenance=made_by(reader, "trained", preferences=len(preferences), trained_on=cut, length=length, steps=steps, seed=seed),
    )
    random = torch.randn(direction.width, generator=torch.Generator().manual_seed(seed))
    means = mean_difference(*texts)
    controls = {"random": random, "mean_difference": means, "shuffled": mixed.vector}
    gains = gained(reader, held, vector=direction.vector)
    baselines = {
        name: float(gained(reader, held, vector=vector * (direction.norm / vector.norm())).mean())
        for name, vector in controls.items()
        if bool(vector.any())
    }
    return TrainedMade(
        direction=direction,
        results=_results(gains, gained(reader, known, vector=direction.vector), baselines=baselines, alike=cosine(direction.vector, means)),
        notes=_notes(gains, baselines, n=cut),
        losses=found.losses,
    )


class Trained(NamedTuple):
    """What `fit_vector` found."""

    vector: Float[Tensor, "width"]
    losses: tuple[float, ...]


def fit_vector(reader: Reader, pairs: "_Pairs", *, limit: float, steps: int, progress: Progress | None = None) -> Trained:
    """Steps down the gradient of the mean of −ln σ(g), from 0, held within a ball of radius `limit`.

    A step is as long as the rate, whatever the gradient's length (the mean of it and those before, weighed by 0.7 each step), so that no
    coordinate counts for more than another; the rate falls linearly to 0.
    """
    width, report = reader.model.width(reader.site), Throttled(progress)
    vector = torch.zeros(width, device=reader.model.device, requires_grad=True)
    heading = torch.zeros_like(vector)
    some = [(part, part.likelihoods(reader, vector=None)) for part in pairs.parts(reader.batch_size)]
    losses: list[float] = []
    for step in range(steps + 1):
        vector.grad, total = None, 0.0
        for part, before in some:
            gains = _gains(part.likelihoods(reader, vector=vector), before)
            loss = torch.nn.functional.softplus(-gains).sum() / len(pairs)
            loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped
            total += float(loss.detach())
        losses.append(total)
        if step == steps:
            break
        assert vector.grad is not None
        with torch.no_grad():
            heading = _MOMENTUM * heading + vector.grad
            vector -= _RATE * limit * (1 - step / steps) * heading / heading.norm().clamp_min(1e-30)
            vector *= min(1.0, limit / max(float(vector.norm()), 1e-30))
        report("train vector", step + 1, steps, unit="steps")
    return Trained(vector.detach().cpu(), tuple(losses))


@torch.no_grad()
def gained(reader: Reader, pairs: "_Pairs", *, vector: Float[Tensor, "width"]) -> Float[Tensor, "n"]:
    """g of each preference under a vector, in nats."""
    here = vector.to(reader.model.device)
    parts = pairs.parts(reader.batch_size)
    return torch.cat([_gains(part.likelihoods(reader, vector=here), part.likelihoods(reader, vector=None)).cpu() for part in parts])


def _gains(after: Float[Tensor, "two n"], before: Float[Tensor, "two n"]) -> Float[Tensor, "n"]:
    change = after - before
    return change[0] - change[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Targets, then what they are held against, as one padded batch."""

    tokens: Int[Tensor, "rows pos"]
    mask: Bool[Tensor, "rows pos"]
    wanted: Bool[Tensor, "rows pos-1"]
    """Of the next-token losses, those of the continuation."""

    @classmethod
    def of(cls, model: Model, preferences: Sequence[Preference]) -> "_Pairs":
        prompts = [list(tokens_of(model, each.prompt)) for each in preferences]
        said = [model.tokenizer.encode(text) for text in (*(each.target for each in preferences), *(each.against for each in preferences))]
        width = max(len(prompt) + len(text) for prompt, text in zip(prompts * 2, said, strict=True))
        tokens = torch.full((len(said), width), model.tokenizer.pad, dtype=torch.int64)
        mask, wanted = torch.zeros(len(said), width, dtype=torch.bool), torch.zeros(len(said), width - 1, dtype=torch.bool)
        for row, (prompt, text) in enumerate(zip(prompts * 2, said, strict=True)):
            n = len(prompt) + len(text)
            tokens[row, :n], mask[row, :n] = torch.tensor([*prompt, *text]), True
            wanted[row, len(prompt) - 1 : n - 1] = True
        return cls(tokens=tokens, mask=mask, wanted=wanted)

    def __len__(self) -> int:
        return len(self.tokens) // 2

    def taken(self, rows: Sequence[int]) -> "_Pairs":
        """These rows, in this order."""
        picked = list(rows)
        return _Pairs(tokens=self.tokens[picked], mask=self.mask[picked], wanted=self.wanted[picked])

    def parts(self, batch_size: int) -> "list[_Pairs]":
        """The preferences a few at a time, so that memory does not grow with their number."""
        n, step = len(self), max(1, batch_size // 2)
        return [self.taken([*range(i, min(i + step, n)), *range(n + i, n + min(i + step, n))]) for i in range(0, n, step)]

    def turned_half(self, *, seed: int) -> "_Pairs":
        """The same with target and other exchanged in a random half."""
        n = len(self)
        order = list(range(2 * n))
        for i in shuffled(n, seed=seed)[: n // 2]:
            order[i], order[n + i] = n + i, i
        return self.taken(order)

    def likelihoods(self, reader: Reader, *, vector: Tensor | None) -> Float[Tensor, "two n"]:
        """Log-likelihood of each continuation, in nats: the targets, then the others. Autograd goes back to the vector."""
        edit = None if vector is None else {reader.site: lambda x: x + vector.to(x.dtype)}
        gradients = vector is not None and vector.requires_grad
        logits = reader.model.logits(self.tokens, mask=self.mask, edit=edit, gradients=gradients)
        wanted = self.wanted.to(logits.device)
        targets = self.tokens.to(logits.device)[:, 1:][wanted]
        each = torch.nn.functional.cross_entropy(logits[:, :-1][wanted].float(), targets, reduction="none")
        sums = torch.zeros(len(wanted), device=each.device).index_add(0, wanted.nonzero()[:, 0], -each)
        return sums.reshape(2, -1)


def _sides(reader: Reader, pairs: _Pairs) -> tuple[Tensor, Tensor]:
    """What the stream has at the tokens of targets, and of the others."""
    values: tuple[list[Tensor], list[Tensor]] = ([], [])
    for part in pairs.parts(reader.batch_size):
        found = reader.model.capture(part.tokens, [reader.site], mask=part.mask)[reader.site][:, 1:]
        for side, rows in enumerate((slice(0, len(part)), slice(len(part), 2 * len(part)))):
            values[side].append(found[rows][part.wanted[rows].to(found.device)].float().cpu())
    return torch.cat(values[0]), torch.cat(values[1])


def _results(gains: Tensor, seen: Tensor, *, baselines: dict[str, float], alike: float) -> tuple[Result, ...]:
    interval = bootstrap_ratio(gains.numpy(), [1.0] * len(gains))
    what = "mean gain of log-likelihood of the target against the other continuation"
    return (
        Result(
            name="gain_held_out",
            value=float(gains.mean()),
            low=interval.low,
            high=interval.high,
            n=len(gains),
            unit="nats",
            definition=f"{what}, on preferences that training did not see; controls of equal length",
            baselines=baselines,
        ),
        Result(name="gain_trained_on", value=float(seen.mean()), n=len(seen), unit="nats", definition=f"{what}, on those it was trained on"),
        Result(name="cosine_with_mean_difference", value=alike, n=len(seen)),
    )


def _notes(gains: Tensor, baselines: dict[str, float], *, n: int) -> tuple[str, ...]:
    notes = ["It was trained to make these continuations likelier; that free text turns to what they have in common is not shown by that."]
    if float(gains.mean()) <= max(baselines.values()):
        notes.append("On held-out preferences it gains no more than a control: it learnt these very texts.")
    if n < 32:
        notes.append(f"Only {n} preferences were trained on.")
    return tuple(notes)
