"""One layout learning at one learning rate: weights, Adam, and which features are alive."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from microtome.dictionaries.kernels import AdamStep, Moments, Product, Proposer, adam
from microtome.models import Site
from microtome.shapes import Bool, Tensor
from microtome.training.config import TrainConfig
from microtome.training.forward import Batch, Parameters, Plan
from microtome.training.group import ALONE, Group
from microtome.training.layout import Layout
from microtome.training.losses import Matryoshka, Nested, Penalty
from microtome.training.revival import AUX_ROWS, revive
from microtome.training.rules import Encoder, rule_of
from microtome.training.start import Start
from microtome.training.step import Stepped, step

DENSE_SHARE = 1 / 8
"""Share of places active above which matrix products over all places are faster than sums over the active ones."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one step gave."""

    lr: float
    loss: float
    l0: float
    dead: int
    aux_loss: float
    penalty: float


def learning_rate(step: int, *, steps: int, peak: float, config: TrainConfig) -> float:
    """The rate of step `step` (from 0): a linear rise over `warmup_share` of the steps, and a linear fall to 0 over the last `decay_share`."""
    schedule = config.schedule
    rise = min(1.0, (step + 1) / max(1.0, schedule.warmup_share * steps))
    fall = min(1.0, (steps - step) / max(1.0, schedule.decay_share * steps))
    return peak * min(rise, fall)


def plan_of(config: TrainConfig, layout: Layout, *, group: Group = ALONE) -> Plan:
    """How one layout is trained."""
    rules = tuple(rule_of(config.nonlinearity, build=config.build) for _ in layout.members)
    for rule in rules:
        rule.group = group
    held = group.features(config.d_dict)
    return Plan(
        layout=layout,
        rules=rules,
        prefixes=tuple(min(max(border - held.start, 0), held.stop - held.start) for border in (*_prefixes(config), config.d_dict)),
        penalties=tuple(loss for loss in config.losses if isinstance(loss, Penalty)),
        frozen_decoder=config.build.frozen_decoder,
        group=group,
    )


def _prefixes(config: TrainConfig) -> tuple[int, ...]:
    """Borders of the features whose reconstructions have a loss of their own."""
    for loss in config.losses:
        if isinstance(loss, Matryoshka):
            return loss.prefixes
        if isinstance(loss, Nested):
            return (loss.prefix,)
    return ()


class Learner:
    """Adam on the sparse step, with unit decoder rows and revival of dead features."""

    def __init__(
        self,
        start: Start,
        config: TrainConfig,
        *,
        layout: Layout,
        weights: Parameters,
        peak_lr: float,
        steps: int,
        product: Product,
        group: Group = ALONE,
    ) -> None:
        self.layout = layout
        self.peak_lr = peak_lr
        self.steps = steps
        self.done = 0
        self.start = start
        self.config = config
        self.group = group
        self.plan = plan_of(config, layout, group=group)
        self._begun = weights.members
        self._parameters = {name: weight.clone() for name, weight in weights.named().items()}
        self.weights = weights.like(self._parameters)
        self._moments = {name: Moments.of(weight) for name, weight in self._parameters.items()}
        self._taken = torch.zeros((), dtype=torch.int64)
        """Steps of Adam: those of fine-tuning too."""
        self._multiples = {f"{number}.{name}": multiple for number, rates in enumerate(self._rates()) for name, multiple in rates.items()}
        self.proposers = [Proposer(member["W_enc"], product) for member in self.weights.members]
        device = weights.b_dec.device
        self._idle = torch.zeros(len(layout.members), len(self.weights.members[0]["b_enc"]), dtype=torch.int64, device=device)
        """Rows since each feature was last active."""
        self._l0 = torch.full((len(layout.members),), math.inf)
        """Of the last batch, each member's."""
        self._centres = None if layout.centred else [start.centre(member) for member in layout.members]

    @property
    def encoders(self) -> list[Encoder]:
        """The members' encoders as they stand."""
        members = zip(self.weights.members, self.proposers, self.plan.rules, self._l0.tolist(), strict=True)
        bound = DENSE_SHARE * self.config.d_dict
        return [Encoder(weights=weights, proposer=proposer, dense=rule.may_be_dense and l0 > bound) for weights, proposer, rule, l0 in members]

    def batch(self, scaled: Mapping[Site, Tensor], *, turn_means: Mapping[Site, Tensor] | None = None) -> Batch:
        """What the step takes, from rows in scaled units."""
        inputs = self.layout.inputs(scaled)
        if self._centres is not None:
            inputs = [each - centre for each, centre in zip(inputs, self._centres, strict=True)]
        means = None if turn_means is None else self.layout.target(turn_means)
        return Batch(inputs=inputs, target=self.layout.target(scaled), prefix_target=means)

    @torch.no_grad()
    def step(self, scaled: Mapping[Site, Tensor], *, turn_means: Mapping[Site, Tensor] | None = None) -> Outcome:
        """Learn from one batch in scaled units."""
        config, batch = self.config, self.batch(scaled, turn_means=turn_means)
        rise = config.schedule.penalty_warmup_share * self.steps
        found = step(batch, self.weights, plan=self.plan, encoders=self.encoders, share=min(1.0, (self.done + 1) / max(1.0, rise)))
        dead = self._idle >= config.revival.dead_after_tokens
        aux_loss = self._revive(found, dead)
        rate = learning_rate(self.done, steps=self.steps, peak=self.peak_lr, config=config)
        self.update(self._shared(found.gradients), rate)
        l0 = self._observe(found, rows=len(batch.target))
        self.done += 1
        losses = torch.stack([found.loss.double(), found.penalty.double(), found.loss.new_tensor(aux_loss, dtype=torch.float64)])
        loss, penalty, aux_loss = self.group.mean_over_rows(losses).tolist()
        n_dead = self.group.total(int(dead.sum())) if self.group.shares_features else int(dead.sum())
        return Outcome(lr=rate, loss=loss, l0=l0, dead=n_dead, aux_loss=aux_loss, penalty=penalty)

    @torch.no_grad()
    def settle(self, rows: Mapping[Site, Tensor]) -> None:
        """Let the rules take from dev rows, not yet scaled, what inference needs."""
        if not any(rule.settles for rule in self.plan.rules) or not all(len(each) for each in rows.values()):
            return
        batch = self.batch({site: rows[site].float() * self.start.sites[site].scale for site in self.layout.sites})
        x = [each - self.weights.b_dec for each in batch.inputs] if self.layout.centred else batch.inputs
        for rule, each, encoder in zip(self.plan.rules, x, self.encoders, strict=True):
            rule.settle(rule.activate(each, encoder))

    @property
    def alive(self) -> Bool[Tensor, "members d_dict"]:
        """Features active within the last `dead_after_tokens`."""
        return self._idle < self.config.revival.dead_after_tokens

    @property
    def is_finite(self) -> bool:
        """Whether all weights are numbers: the last step's are seen by no loss."""
        return self.group.least(all(bool(weight.isfinite().all()) for weight in self._parameters.values())) > 0

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on; in a group, that of all processes on the first one, as if it were alone."""
        dims = self._split()
        held = {name: self.group.gathered(tensor, dim=dims[name]) if name in dims else tensor for name, tensor in self._tensors().items()}
        return {**held, "done": torch.tensor(self.done)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a learner with the same settings, which a group of any size has left."""
        dims, mine = self._split(), self.group.features(self.config.d_dict)
        for name, tensor in self._tensors().items():
            tensor.copy_(state[name].narrow(dims[name], mine.start, mine.stop - mine.start) if name in dims else state[name])
        self.done = int(state["done"])
        self._refresh()

    def update(self, gradients: Parameters, rate: float) -> None:
        """Adam. Where decoder rows are held at norm 1, the part of their gradient along them, which would only change the norm, is removed."""
        self._taken += 1
        held = {f"{number}.W_dec": self.plan.copies(number) for number in range(len(self.weights.members)) if self._holds_norms}
        for name, gradient in gradients.named().items():
            if self.config.build.frozen_decoder and name.endswith("W_dec"):
                continue
            now = AdamStep(rate=rate * self._multiples.get(name, 1.0), taken=int(self._taken), copies=held.get(name, 0))
            adam(self._parameters[name], gradient, moments=self._moments[name], step=now)
        self._refresh()

    @property
    def _holds_norms(self) -> bool:
        return self.config.build.decoder_norm == "unit" and not self.config.build.frozen_decoder

    def _rates(self) -> list[Mapping[str, float]]:
        """By which multiples of the rate each member's own tensors learn."""
        return [rule.rates(member["W_enc"].shape[1]) for rule, member in zip(self.plan.rules, self.weights.members, strict=True)]

    def _refresh(self) -> None:
        for proposer, member in zip(self.proposers, self.weights.members, strict=True):
            proposer.refresh(member["W_enc"])

    def _tensors(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {"idle": self._idle, "l0": self._l0, "taken": self._taken, **self._parameters}
        for name, moments in self._moments.items():
            named |= {f"{name}.{part}": tensor for part, tensor in moments._asdict().items()}
        for number, rule in enumerate(self.plan.rules):
            named |= {f"{number}.{part}": tensor for part, tensor in rule.running().items()}
        return named

    def _split(self) -> dict[str, int]:
        """Of the tensors that hold something of each feature, the dimension of the features."""
        features = [f"{number}.{name}" for number, member in enumerate(self.weights.members) for name in member if name != "W_skip"]
        return {"idle": 1, **dict.fromkeys((f"{name}{part}" for name in features for part in ("", ".exp_avg", ".exp_avg_sq")), 0)}

    def _shared(self, gradients: Parameters) -> Parameters:
        """The gradients of the whole batch, from those of this process's part."""
        alike = {"b_dec", *(f"{number}.W_skip" for number in range(len(gradients.members)))} if self.group.shares_features else set[str]()
        named = gradients.named()
        return gradients.like({name: self.group.first(each) if name in alike else self.group.mean_over_rows(each) for name, each in named.items()})

    def _observe(self, found: Stepped, *, rows: int) -> float:
        """Count activity; the mean L0 of the members."""
        rows *= self.group.size if self.group.shares_rows else 1
        for number, (rule, active) in enumerate(zip(self.plan.rules, found.forward.active, strict=True)):
            rule.observe(active)
            counts = self.group.over_rows(active.support.counts(active.values))
            self._idle[number].add_(rows).mul_(counts == 0)
            self._l0[number] = float(self.group.over_features(counts.sum())) / rows
        return float(self._l0.mean())

    def _revive(self, found: Stepped, dead: Bool[Tensor, "members d_dict"]) -> float:
        """Add the revival's gradient for the dead (they have no other one) to `found.gradients`; the mean of its losses over the members."""
        coefficient = self.config.revival.coefficient
        if coefficient == 0:
            return 0.0
        group = self.group
        rows = group.rows_of_first(AUX_ROWS, held=len(found.error))
        share = rows / min(AUX_ROWS, len(found.error) * group.size) * group.size if group.shares_rows else 1.0
        total, written = 0.0, found.error[:rows]
        for number, (member, gradient) in enumerate(zip(self.weights.members, found.gradients.members, strict=True)):
            which = dead[number].nonzero().flatten()
            if (group.total(len(which)) if group.shares_features else len(which)) == 0:
                continue
            self.plan.rules[number].reset(member, which, start=self._begun[number])
            x = found.forward.x[number][:rows]
            error = self.plan.written(written, number) / self.plan.copies(number)
            made = revive(x, error, W_enc=member["W_enc"][which], W_dec=member["W_dec"][which], k_aux=max(1, x.shape[1] // 2), group=group)
            gradient["W_enc"].index_add_(0, which, made.W_enc, alpha=coefficient * share)
            gradient["W_dec"].index_add_(0, which, made.W_dec, alpha=coefficient * share)
            total += float(made.loss) * share
        return total / len(self.weights.members)


def is_finite(outcome: Outcome) -> bool:
    """Whether the losses of a step are numbers."""
    return math.isfinite(outcome.loss) and math.isfinite(outcome.aux_loss) and math.isfinite(outcome.penalty)
