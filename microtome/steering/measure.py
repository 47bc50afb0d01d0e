"""What an edit does, as one number a prompt: a logit difference, a KL divergence, how often a pattern occurs, any score of a text."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from microtome.dictionaries import Dictionary
from microtome.errors import ConfigError
from microtome.models import Model
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Tensor
from microtome.steering.apply import applied
from microtome.steering.compose import EditSet
from microtome.steering.generate import Generation, generate
from microtome.steering.layout import Batch, Prompt
from microtome.steering.sampling import Sampling


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """A model, prompts, and how continuations are drawn: what effects are measured on."""

    model: Model
    prompts: Sequence[Prompt]
    """The units of every interval: more of them make it narrower."""
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=40))
    n_samples: int = 1
    """Continuations a prompt, with the seeds seed, seed + 1, …; more than one needs a temperature."""
    dictionaries: Mapping[str, Dictionary] | None = None
    batch_size: int = 8
    progress: Progress | None = None
    _made: dict[object, list[Generation]] = field(default_factory=lambda: {}, init=False, repr=False)
    """Continuations that were generated before, by edits and prompts: an effect and its coherence are of the same text."""

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ConfigError("there is nothing to measure on.", got="no prompts", wanted="at least one", do="Give prompts.")
        if self.n_samples < 1 or (self.n_samples > 1 and self.sampling.temperature == 0):
            got, wanted = f"{self.n_samples} samples at temperature {self.sampling.temperature:g}", "one, or a temperature above 0"
            raise ConfigError("so many samples cannot be drawn.", got=got, wanted=wanted, do="Set a temperature, or draw one.")

    def quiet(self) -> "Bench":
        """The same without progress; what one generated the other need not."""
        silent = replace(self, progress=None)
        object.__setattr__(silent, "_made", self._made)
        return silent

    def next_logits(self, edits: EditSet, *, prompts: Sequence[Prompt]) -> Float[Tensor, "n vocab"]:
        """Logits of the token after each prompt under the edits, fp64, over the tokens that the tokenizer knows."""
        found: list[Tensor] = []
        for start in range(0, len(prompts), self.batch_size):
            batch = Batch.of(self.model, prompts[start : start + self.batch_size])
            with applied(self.model, edits, batch=batch, dictionaries=self.dictionaries):
                found.append(self.model.logits(batch.tokens, mask=batch.mask)[:, -1, : len(self.model.tokenizer)].double().cpu())
        return torch.cat(found)

    def continuations(self, edits: EditSet, *, prompts: Sequence[Prompt]) -> list[Generation]:
        """`n_samples` of each prompt, prompt after prompt; those of the same edits are generated once."""
        key = _key(edits, prompts)
        if key not in self._made:
            self._made[key] = self._generated(edits, prompts=prompts)
        return self._made[key]

    def prepare(self, wanted: Iterable[tuple[EditSet, Sequence[Prompt]]]) -> None:
        """Generate what `continuations` will be asked for, each on a core of its own unless the model is tapped around."""
        todo = {key: each for each in wanted if (key := _key(*each)) not in self._made}

        def make(key: object) -> tuple[object, list[Generation]]:
            edits, prompts = todo[key]
            return key, self._generated(edits, prompts=prompts)

        report = Throttled(self.progress)
        with self.model.workers() as run_all:
            for done, (key, made) in enumerate(run_all(make, todo), start=1):
                self._made[key] = made
                report("continuations", done, len(todo), unit="arms")

    def _generated(self, edits: EditSet, *, prompts: Sequence[Prompt]) -> list[Generation]:
        rows = [(prompt, replace(self.sampling, seed=self.sampling.seed + i)) for prompt in prompts for i in range(self.n_samples)]
        edits, made = _in_effect(edits), list[Generation]()
        for start in range(0, len(rows), self.batch_size):
            some = rows[start : start + self.batch_size]
            samplings = [sampling for _, sampling in some]
            made += generate(self.model, [prompt for prompt, _ in some], edits=edits, sampling=samplings, dictionaries=self.dictionaries)
        return made

    def surprise(self, generations: Sequence[Generation]) -> list[Float[Tensor, "n"]]:
        """For each, the cross-entropy of its tokens under the unedited model, in nats a token."""
        found: list[Tensor] = []
        for start in range(0, len(generations), self.batch_size):
            some = generations[start : start + self.batch_size]
            batch = Batch.of(self.model, [each.row for each in some])
            losses = self.model.loss(batch.tokens, mask=batch.mask)
            for row, each in enumerate(some):
                first = batch.starts[row] + len(each.prompt.tokens)
                found.append(losses[row, first - 1 : first - 1 + len(each.tokens)].double().cpu())
        return found


def _in_effect(edits: EditSet) -> EditSet:
    """None at all for edits that are off."""
    return EditSet() if edits.is_off else edits


def _key(edits: EditSet, prompts: Sequence[Prompt]) -> object:
    """What continuations are kept by."""
    return _in_effect(edits).fingerprint, tuple(prompts)


@dataclass(frozen=True, kw_only=True)
class Measure(ABC):
    """One number a prompt under edits. An effect is that number minus the unedited model's on the unedited prompt."""

    name: ClassVar[str]
    unit: ClassVar[str]
    definition: ClassVar[str]
    of_text: ClassVar[bool] = False
    """Whether it asks the bench for continuations."""

    @abstractmethod
    def values(self, bench: Bench, edits: EditSet, *, prompts: Sequence[Prompt]) -> list[float]:
        """The number for each of `prompts` (the bench's own, or those of a control; in the bench's order)."""


@dataclass(frozen=True, kw_only=True)
class LogitDifference(Measure):
    """logsumexp of the logits of `target`'s first tokens minus that of `against`'s, after the prompt."""

    name: ClassVar[str] = "logit_difference"
    unit: ClassVar[str] = "nats"
    definition: ClassVar[str] = "log of how much likelier the target's first tokens are than the others', after the prompt"

    target: tuple[str, ...]
    against: tuple[str, ...]

    def values(self, bench: Bench, edits: EditSet, *, prompts: Sequence[Prompt]) -> list[float]:
        towards, away = (sorted({self._first(bench.model, text) for text in side}) for side in (self.target, self.against))
        if not towards or not away or set(towards) & set(away):
            do = "Give answers that begin with different tokens; a leading space is a part of the token."
            raise ConfigError("the answers cannot be told apart.", got=f"{self.target} and {self.against}", wanted="different first tokens", do=do)
        logits = bench.next_logits(edits, prompts=prompts)
        return (logits[:, towards].logsumexp(1) - logits[:, away].logsumexp(1)).tolist()

    @staticmethod
    def _first(model: Model, text: str) -> int:
        tokens = model.tokenizer.encode(text)
        if not tokens:
            raise ConfigError("an answer is empty.", got=repr(text), wanted="a text", do="Leave it out.")
        return tokens[0]


@dataclass(frozen=True, kw_only=True)
class Divergence(Measure):
    """KL(edited ‖ unedited) of the next token after the prompt: how much changes, whatever it is. The unedited model's is 0."""

    name: ClassVar[str] = "kl"
    unit: ClassVar[str] = "nats"
    definition: ClassVar[str] = "KL(edited ‖ unedited) of the next token after the prompt"

    def values(self, bench: Bench, edits: EditSet, *, prompts: Sequence[Prompt]) -> list[float]:
        plain = bench.next_logits(EditSet(), prompts=bench.prompts).log_softmax(-1)
        changed = bench.next_logits(edits, prompts=prompts).log_softmax(-1)
        return (changed.exp() * (changed - plain)).sum(-1).clamp_min(0).tolist()


@dataclass(frozen=True, kw_only=True)
class Score(Measure):
    """The mean of `function` over a prompt's continuations: a judge, a classifier, a count."""

    name: ClassVar[str] = "score"
    unit: ClassVar[str] = "the function's"
    definition: ClassVar[str] = "mean score of the continuations"
    of_text: ClassVar[bool] = True

    function: Callable[[str], float]

    def values(self, bench: Bench, edits: EditSet, *, prompts: Sequence[Prompt]) -> list[float]:
        made = bench.continuations(edits, prompts=prompts)
        scores = torch.tensor([float(self.function(each.text)) for each in made], dtype=torch.float64)
        return scores.reshape(len(prompts), -1).mean(1).tolist()


@dataclass(frozen=True, kw_only=True)
class Matches(Measure):
    """The share of a prompt's continuations in which a regular expression is found."""

    name: ClassVar[str] = "matches"
    unit: ClassVar[str] = "share"
    definition: ClassVar[str] = "share of the continuations in which the pattern is found"
    of_text: ClassVar[bool] = True

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"this is no regular expression: {error}.", got=self.pattern, wanted="one", do="Correct it.") from error

    def values(self, bench: Bench, edits: EditSet, *, prompts: Sequence[Prompt]) -> list[float]:
        found = Score(function=lambda text: float(re.search(self.pattern, text) is not None))
        return found.values(bench, edits, prompts=prompts)


def measure_of(text: str) -> Measure:
    """A measure in few words: `kl`, `logits: Yes| No` (what the answers begin with, their spaces too), or `regex:PATTERN`. Else `ConfigError`."""
    kind, _, rest = text.partition(":")
    if kind == "kl" and not rest:
        return Divergence()
    if kind == "regex" and rest:
        return Matches(pattern=rest)
    if kind == "logits" and rest.count("|") == 1:
        target, against = rest.split("|")
        return LogitDifference(target=(target,), against=(against,))
    wanted = '"kl", "logits: Yes| No" or "regex:PATTERN"'
    raise ConfigError(f'"{text}" is no measure.', got=text, wanted=wanted, do="Write it so.")
