"""Fine-tuning: dictionaries stand in the model while it reads, and learn to leave its predictions as they are.

The gradient of KL(model || model with the dictionaries) comes back through the model, also through later dictionaries' encoders, to every weight. A
member's features are one node of autograd's graph, whose backward is the sparse one of training; biases and skips are plain operations of the graph.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from microtome.activations import Corpus, Shards, SideBySide
from microtome.errors import TrainingDiverged
from microtome.models import Edit, Model, Site
from microtome.progress import Progress, Throttled
from microtome.shapes import Tensor
from microtome.training.backward import through_decoder, through_encoder, through_input
from microtome.training.forward import Parameters, Plan, Tensors, reconstruct
from microtome.training.from_forward import FromForward
from microtome.training.layout import Layout, Member
from microtome.training.learner import Learner
from microtome.training.losses import KL
from microtome.training.rules import Encoder
from microtome.training.splice import Contexts, contexts_of


class Features(torch.autograd.Function):
    """What a member's features write, [n, columns written], of encoder inputs x; backward adds the weights' gradients to `into`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, encoder: Encoder, plan: Plan, into: Tensors) -> Tensor:  # noqa: PLR0917  # autograd's convention
        zero = x.new_zeros(len(plan.layout.targets) * encoder.weights["W_dec"].shape[1] // (1 if plan.layout.tied else len(plan.layout.targets)))
        weights = Parameters(members=[{name: weight for name, weight in encoder.weights.items() if name != "W_skip"}], b_dec=zero)
        forward = reconstruct([x], weights, plan=plan, encoders=[encoder])
        ctx.state = (forward, weights, plan, into)
        return forward.reconstructions[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  # as torch documents it
        forward, weights, plan, into = ctx.state
        half = through_decoder(forward, [grad_outputs[0].contiguous()], weights=weights, plan=plan)
        read = through_input(forward, half, weights=weights, plan=plan)[0]
        for name, gradient in through_encoder(forward, half, weights=weights, plan=plan).members[0].items():
            into[name] = into[name] + gradient if name in into else gradient
        return read, None, None, None


class InModel:
    """One forward's learners in place: edits that keep the graph, and the gradients once it was walked back."""

    def __init__(self, learners: Sequence[Learner], batch: Contexts) -> None:
        self._learners = learners
        self._keep = batch.keep
        self._written: dict[Site, list[Tensor]] = {}
        self._leaves = [learner.weights.b_dec.clone().requires_grad_() for learner in learners]
        self._skips: dict[tuple[int, int], Tensor] = {}
        self._into: list[list[Tensors]] = [[{} for _ in learner.layout.members] for learner in learners]
        self.squared: list[Tensor] = []
        """Mean squared error of each site written, in scaled units."""

    def edits(self) -> dict[Site, Edit]:
        """At every site read or written."""
        reads = {site for learner in self._learners for member in learner.layout.members for site in member.reads}
        writes = {target[0] for learner in self._learners for target in learner.layout.targets}
        return {site: self._edit(site, reads=site in reads, writes=site in writes) for site in reads | writes}

    def gradients(self) -> list[Parameters]:
        """Of every learner, after `backward` of a loss."""
        found: list[Parameters] = []
        for number, leaf in enumerate(self._leaves):
            members = self._into[number]
            for place, member in enumerate(members):
                if (number, place) in self._skips:
                    member["W_skip"] = _gradient(self._skips[number, place])
            found.append(Parameters(members=[dict(member) for member in members], b_dec=_gradient(leaf)))
        return found

    def _edit(self, site: Site, *, reads: bool, writes: bool) -> Edit:
        def edit(x: Tensor) -> Tensor | None:
            where = self._keep.to(x.device)
            rows = x[where].float()
            if reads:
                self._read(site, rows)
            if not writes:
                return None
            changed = x.clone()
            changed[where] = self._made(site, rows).to(x.dtype)
            return changed

        return edit

    def _read(self, site: Site, rows: Tensor) -> None:
        for number, learner in enumerate(self._learners):
            for place, member in enumerate(learner.layout.members):
                if site not in member.reads:
                    continue
                scaled = rows * learner.start.sites[site].scale
                x = scaled - (self._leaves[number] if learner.layout.centred else learner.start.centre(member))
                if not x.requires_grad:
                    x.requires_grad_()  # or autograd would see no reason to come back this way
                plan, encoder = _alone(learner, place), learner.encoders[place]
                made = Features.apply(x, encoder, plan, self._into[number][place])
                parts = made.unflatten(1, (member.last - member.first, -1)).unbind(1)
                if "W_skip" in encoder.weights:
                    skip = encoder.weights["W_skip"].clone().requires_grad_()
                    self._skips[number, place] = skip
                    parts = (parts[0] + x @ skip.T, *parts[1:])
                for target, part in zip(learner.layout.targets[member.first : member.last], parts, strict=True):
                    self._written.setdefault(target[0], []).append(part)

    def _made(self, site: Site, rows: Tensor) -> Tensor:
        """The reconstruction at a site in the model's units."""
        for number, learner in enumerate(self._learners):
            for place, target in enumerate(learner.layout.targets):
                if target[0] == site:
                    bias = self._leaves[number].unflatten(0, (len(learner.layout.targets), -1))[place]
                    scale = learner.start.sites[site].scale
                    made = torch.stack(self._written[site]).sum(0) + bias
                    self.squared.append((made - rows.detach() * scale).square().mean())
                    return made / scale
        raise AssertionError(f"no learner writes {site}")


def finetune(
    learners: Sequence[Learner],
    model: Model,
    shards: Shards | SideBySide | FromForward,
    *,
    corpus: Corpus,
    loss: KL,
    progress: Progress | None = None,
) -> list[float]:
    """Train on in the model, on contexts of the train split in a fixed order; the KL of each step, in nats a token. Raises `TrainingDiverged`."""
    report = Throttled(progress)
    contexts = list(contexts_of(shards, corpus, split="train", tokens=loss.tokens))
    order = torch.randperm(len(contexts), generator=torch.Generator().manual_seed(learners[0].config.seed)).tolist()
    history: list[float] = []
    for done, index in enumerate(order):
        history.append(_step(learners, model, contexts[index], loss=loss, left=1 - done / len(order)))
        if not math.isfinite(history[-1]):
            do = "Give kl a smaller lr_share or coefficient."
            raise TrainingDiverged("the numbers stopped being finite while fine-tuning.", got=history[-1], wanted="a finite KL", do=do)
        report("fine-tuning in the model", done + 1, len(order), note=f"KL {history[-1]:.3f}")
    return history


def _step(learners: Sequence[Learner], model: Model, batch: Contexts, *, loss: KL, left: float) -> float:
    wanted = F.log_softmax(model.logits(batch.tokens, mask=batch.real).float(), dim=-1)
    placed = InModel(learners, batch)
    with torch.enable_grad():
        made = F.log_softmax(model.logits(batch.tokens, mask=batch.real, edit=placed.edits(), gradients=True).float(), dim=-1)
        kl = (wanted.exp() * (wanted - made)).sum(-1)[batch.real.to(made.device)].mean()
        (loss.coefficient * kl + torch.stack(placed.squared).sum()).backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped
    for learner, gradients in zip(learners, placed.gradients(), strict=True):
        with torch.no_grad():
            learner.update(gradients, learner.peak_lr * loss.lr_share * left)
    return float(kl.detach())


def _alone(learner: Learner, place: int) -> Plan:
    """The plan of one member by itself, its targets those that it writes."""
    member = learner.layout.members[place]
    count = member.last - member.first
    layout = Layout(
        members=(Member(reads=member.reads, first=0, last=count),),
        targets=learner.layout.targets[member.first : member.last],
        centred=False,
        tied=learner.layout.tied,
    )
    whole = (learner.plan.prefixes[-1],)
    return Plan(layout=layout, rules=(learner.plan.rules[place],), prefixes=whole, frozen_decoder=learner.plan.frozen_decoder)


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
