"""Gradients of every kind, nonlinearity and loss equal dense autograd's."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import pytest
import torch

from microtome.dictionaries import AbsTopK, BatchTopK, Gated, JumpReLU, Nonlinearity, ReLU, TopK
from microtome.dictionaries.kernels import Proposer
from microtome.errors import ConfigError
from microtome.models import Site
from microtome.training import L0, L1, Build, Loss, Matryoshka, Nested, Penalty, PreAct, Tanh, TrainConfig
from microtome.training.forward import Batch, Parameters, Plan
from microtome.training.layout import layouts
from microtome.training.learner import plan_of
from microtome.training.rules import Encoder
from microtome.training.step import step

D, FEATURES, ROWS, K = 6, 20, 40, 3
READS = tuple(Site("mlp_in", layer) for layer in range(3))
WRITES = tuple(Site("mlp_out", layer) for layer in range(3))
KINDS: dict[str, dict[str, object]] = {
    "sae": {"kind": "sae", "reads": READS[:1]},
    "transcoder": {"kind": "transcoder", "reads": READS[:1], "writes": WRITES[:1]},
    "skip transcoder": {"kind": "transcoder", "reads": READS[:1], "writes": WRITES[:1], "build": Build(skip=True, bandwidth=0.5)},
    "cross-layer": {"kind": "cross-layer", "reads": READS, "writes": WRITES, "build": Build(skip=True, bandwidth=0.5)},
    "tied cross-layer": {"kind": "cross-layer", "reads": READS, "writes": WRITES, "build": Build(tied_decoder=True, bandwidth=0.5)},
    "crosscoder": {"kind": "crosscoder", "reads": READS[:2]},
}
THINNED: dict[str, tuple[Nonlinearity, tuple[Loss, ...]]] = {
    "relu, l1": (ReLU(), (L1(coefficient=0.3),)),
    "relu, tanh, preact": (ReLU(), (Tanh(coefficient=0.5, scale=2.0), PreAct(coefficient=0.1))),
    "jumprelu, l0": (JumpReLU(), (L0(coefficient=0.3, target=None),)),
    "jumprelu, l0 target far": (JumpReLU(), (L0(coefficient=0.3, target=2.0),)),
    "jumprelu, l0 target near": (JumpReLU(), (L0(coefficient=0.3, target=7.0),)),
    "jumprelu, l1, preact": (JumpReLU(), (L1(coefficient=0.3), PreAct(coefficient=0.1))),
    "jumprelu, tanh, matryoshka": (JumpReLU(), (Tanh(coefficient=0.3), Matryoshka(prefixes=(5, 11)))),
    "topk": (TopK(k=K), ()),
    "topk, l1, matryoshka": (TopK(k=K), (L1(coefficient=0.3), Matryoshka(prefixes=(4,)))),
    "topk, nested": (TopK(k=K), (Nested(prefix=7),)),
    "abstopk, l1": (AbsTopK(k=K), (L1(coefficient=0.3),)),
    "abstopk, tanh": (AbsTopK(k=K), (Tanh(coefficient=0.3),)),
    "batchtopk": (BatchTopK(k=K), ()),
    "batchtopk, matryoshka": (BatchTopK(k=K), (Matryoshka(prefixes=(5, 11)),)),
    "gated, l1": (Gated(), (L1(coefficient=0.3),)),
    "gated, tanh, matryoshka": (Gated(), (Tanh(coefficient=0.3), Matryoshka(prefixes=(9,)))),
}

SQUARED: dict[str, tuple[Loss, ...]] = {"": (), ", matryoshka": (Matryoshka(prefixes=(5, 11)),), ", nested": (Nested(prefix=7),)}
THINNING: dict[str, tuple[Loss, ...]] = {
    "no penalty": (),
    "l1": (L1(coefficient=0.3),),
    "tanh": (Tanh(coefficient=0.5, scale=2.0),),
    "l0": (L0(coefficient=0.3, target=None),),
    "l0 target": (L0(coefficient=0.3, target=4.0),),
    "l1, preact": (L1(coefficient=0.3), PreAct(coefficient=0.1)),
}
EVERY = {"relu": ReLU(), "jumprelu": JumpReLU(), "topk": TopK(k=K), "abstopk": AbsTopK(k=K), "batchtopk": BatchTopK(k=K), "gated": Gated()}
PAIRS = {
    f"{name}, {thinning}{squared}": (nonlinearity, (*THINNING[thinning], *SQUARED[squared]))
    for name, nonlinearity in EVERY.items()
    for thinning in THINNING
    for squared in SQUARED
}


def case(kind: str, thinned: str, *, through: Literal["all", "threshold"] = "all") -> TrainConfig:
    nonlinearity, losses = THINNED.get(thinned) or PAIRS[thinned]
    changes = dict(KINDS[kind])
    build = changes.pop("build", Build(bandwidth=0.5))
    assert isinstance(build, Build)
    whole = {**changes, "build": replace(build, jump_gradient=through), "nonlinearity": nonlinearity, "losses": losses}
    return TrainConfig(**whole, d_dict=FEATURES, batch_size=ROWS, tokens=ROWS)  # type: ignore[arg-type]  # fields by name


def random_parameters(config: TrainConfig, plan: Plan) -> Parameters:
    """Free decoder norms, biases everywhere: nothing is at a place where a term would vanish."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).float()

    members: list[dict[str, torch.Tensor]] = []
    for member, rule in zip(plan.layout.members, plan.rules, strict=True):
        width = D * len(plan.layout.targets[0])
        written = width if plan.layout.tied else width * (member.last - member.first)
        weights = {"W_enc": normal(FEATURES, D * len(member.reads)), "b_enc": 0.3 * normal(FEATURES), "W_dec": 0.5 * normal(FEATURES, written)}
        weights |= {name: tensor + 0.2 * normal(FEATURES).abs() for name, tensor in rule.tensors(FEATURES).items()}
        if config.build.skip:
            weights["W_skip"] = normal(width, D)
        members.append(weights)
    return Parameters(members=members, b_dec=0.3 * normal(sum(D * len(sites) for sites in plan.layout.targets)))


def random_batch(config: TrainConfig, plan: Plan) -> Batch:
    generator = torch.Generator().manual_seed(1)
    rows = {site: torch.randn(ROWS, D, generator=generator) for site in config.sites}
    means = (
        torch.randn(ROWS, plan.layout.target(rows).shape[1], generator=generator) if any(isinstance(loss, Nested) for loss in config.losses) else None
    )
    return Batch(inputs=plan.layout.inputs(rows), target=plan.layout.target(rows), prefix_target=means)


def jump(pre: torch.Tensor, threshold: torch.Tensor, *, bandwidth: float, through: str) -> torch.Tensor:
    """The step function, whose derivative is a rectangle's."""
    inside = pre if through == "all" else pre.detach()
    ramp = ((inside - threshold) / bandwidth).clamp(-0.5, 0.5)
    return (pre > threshold).to(pre.dtype).detach() + ramp - ramp.detach()


def keep(scores: torch.Tensor, nonlinearity: Nonlinearity) -> torch.Tensor:
    """Which places TopK, AbsTopK and BatchTopK choose."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    if isinstance(nonlinearity, BatchTopK):
        return kept.flatten().scatter(0, scores.flatten().topk(K * ROWS).indices, True).view_as(scores) & (scores > 0)
    size = scores.abs() if isinstance(nonlinearity, AbsTopK) else scores
    return kept.scatter(1, size.topk(K, dim=1).indices, True)


def dense_loss(batch: Batch, weights: Parameters, config: TrainConfig, plan: Plan) -> torch.Tensor:  # noqa: PLR0917  # the four parts of the formula
    """The whole loss in dense torch, from the formulas of the papers."""
    nonlinearity, build = config.nonlinearity, config.build
    codes, strengths, gates = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()
    x = [rows - weights.b_dec if plan.layout.centred else rows for rows in batch.inputs]
    for rows, member in zip(x, weights.members, strict=True):
        pre = rows @ member["W_enc"].T + member["b_enc"]
        strength: torch.Tensor
        if isinstance(nonlinearity, ReLU):
            strength = code = pre.relu()
        elif isinstance(nonlinearity, JumpReLU):
            threshold = member["threshold"]
            step_ = jump(pre, threshold, bandwidth=build.bandwidth, through=build.jump_gradient)
            passed = (pre > threshold).to(pre.dtype)
            strength = code = pre * passed + threshold.detach() * (step_ - passed)
        elif isinstance(nonlinearity, Gated):
            strength = pre.relu()
            code = (pre > 0) * (member["r_mag"].exp() * (pre - member["b_enc"]) + member["b_mag"]).relu()
        else:
            chosen = keep(pre.detach(), nonlinearity)
            strength = code = torch.where(chosen, pre if isinstance(nonlinearity, AbsTopK) else pre.relu(), 0.0)
        codes.append(code)
        strengths.append(strength)
        gates.append(pre)
    width = batch.target.shape[1] // len(plan.layout.targets)

    def decoded(values: list[torch.Tensor], prefix: int) -> torch.Tensor:
        made = [weights.b_dec[low : low + width].expand(ROWS, -1) for low in range(0, batch.target.shape[1], width)]
        for rows, member, place, each in zip(x, weights.members, plan.layout.members, values, strict=True):
            for target in range(place.first, place.last):
                low = 0 if plan.layout.tied else (target - place.first) * width
                made[target] = made[target] + each[:, :prefix] @ member["W_dec"][:prefix, low : low + width]
            if "W_skip" in member:
                made[place.first] = made[place.first] + rows @ member["W_skip"].T
        return torch.cat(made, 1)

    unit = ROWS * width
    targets = [batch.target if batch.prefix_target is None or number else batch.prefix_target for number in range(len(plan.prefixes))]
    squared = [(decoded(codes, prefix) - wanted).square().sum() for prefix, wanted in zip(plan.prefixes, targets, strict=True)]
    total = sum(squared) / (unit * len(squared))
    if isinstance(nonlinearity, Gated):
        stopped = Parameters(members=[_detached(member) for member in weights.members], b_dec=weights.b_dec.detach())
        total = total + _frozen(x, strengths, stopped, plan=plan, width=width, target=batch.target).square().sum() / unit
    for loss in config.losses:
        if isinstance(loss, Penalty):
            for member, place, strength, pre in zip(weights.members, plan.layout.members, strengths, gates, strict=True):
                copies = place.last - place.first if plan.layout.tied else 1
                norms = member["W_dec"].norm(dim=1) * copies**0.5 / width**0.5
                total = total + loss.coefficient / ROWS * PENALTIES[type(loss)](
                    loss, Dense(torch.where(strength < 0, -strength, strength), pre, member, norms, build)
                )
    assert isinstance(total, torch.Tensor)
    return total


def _detached(member: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in member.items()}


def _frozen(
    x: list[torch.Tensor], strengths: list[torch.Tensor], stopped: Parameters, *, plan: Plan, width: int, target: torch.Tensor
) -> torch.Tensor:
    made = [stopped.b_dec[low : low + width].expand(ROWS, -1) - target[:, low : low + width] for low in range(0, target.shape[1], width)]
    for rows, member, place, each in zip(x, stopped.members, plan.layout.members, strengths, strict=True):
        for number in range(place.first, place.last):
            low = 0 if plan.layout.tied else (number - place.first) * width
            made[number] = made[number] + each @ member["W_dec"][:, low : low + width]
        if "W_skip" in member:
            made[place.first] = made[place.first] + rows.detach() @ member["W_skip"].T
    return torch.cat(made, 1)


class Dense(NamedTuple):
    """What a penalty is taken on, densely."""

    size: torch.Tensor
    pre: torch.Tensor
    member: dict[str, torch.Tensor]
    norms: torch.Tensor
    build: Build


def _l1(loss: Penalty, seen: Dense) -> torch.Tensor:
    return (seen.size * seen.norms).sum()


def _tanh(loss: Penalty, seen: Dense) -> torch.Tensor:
    assert isinstance(loss, Tanh)
    return torch.tanh(loss.scale * seen.size * seen.norms).sum()


def _l0(loss: Penalty, seen: Dense) -> torch.Tensor:
    assert isinstance(loss, L0)
    count = jump(seen.pre, seen.member["threshold"], bandwidth=seen.build.bandwidth, through=seen.build.jump_gradient).sum()
    if loss.target is None:
        return count
    excess = count / ROWS / loss.target - 1
    return ROWS * torch.where(excess.abs() <= 1, excess.square(), 2 * excess.abs() - 1)


def _preact(loss: Penalty, seen: Dense) -> torch.Tensor:
    return ((seen.member.get("threshold", torch.tensor(0.0)) - seen.pre).relu() * seen.norms).sum()


PENALTIES: dict[type[Penalty], Callable[[Penalty, Dense], torch.Tensor]] = {L1: _l1, Tanh: _tanh, L0: _l0, PreAct: _preact}


def compare(config: TrainConfig, *, dense: bool) -> None:
    layout = layouts(config)[0]
    plan = plan_of(config, layout)
    weights, batch = random_parameters(config, plan), random_batch(config, plan)
    encoders = [Encoder(weights=member, proposer=Proposer(member["W_enc"], "float32"), dense=dense) for member in weights.members]
    found = step(batch, weights, plan=plan, encoders=encoders)
    leaves = {name: tensor.double().requires_grad_() for name, tensor in weights.named().items()}
    doubled = Batch(
        inputs=[rows.double() for rows in batch.inputs],
        target=batch.target.double(),
        prefix_target=None if batch.prefix_target is None else batch.prefix_target.double(),
    )
    dense_loss(doubled, weights.like(leaves), config, plan).backward()
    for name, gradient in found.gradients.named().items():
        expected = leaves[name].grad
        expected = torch.zeros_like(leaves[name]) if expected is None else expected
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("thinned", THINNED)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_dense_formula(kind: str, thinned: str) -> None:
    compare(case(kind, thinned), dense=False)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_nonlinearity_meets_every_loss_that_it_may_have(pair: str) -> None:
    name, asked = pair.split(", ", 1)
    pointless = "no penalty" in asked and name in {"relu", "jumprelu", "gated"}
    if pointless or ("l0" in asked and name != "jumprelu") or ("preact" in asked and name not in {"relu", "jumprelu"}):
        with pytest.raises(ConfigError):
            case("sae", pair)
    else:
        compare(case("sae", pair), dense=False)


@pytest.mark.parametrize("thinned", [name for name, (nonlinearity, _) in THINNED.items() if isinstance(nonlinearity, ReLU | JumpReLU | Gated)])
@pytest.mark.parametrize("kind", ["sae", "cross-layer"])
def test_gradients_are_the_same_while_much_is_active_and_products_are_dense(kind: str, thinned: str) -> None:
    compare(case(kind, thinned), dense=True)


@pytest.mark.parametrize("thinned", [name for name, (nonlinearity, _) in THINNED.items() if isinstance(nonlinearity, JumpReLU)])
def test_the_jumps_gradient_can_be_kept_to_the_thresholds(thinned: str) -> None:
    compare(case("transcoder", thinned, through="threshold"), dense=False)


def test_reconstruction_error_and_penalty_are_reported_apart() -> None:
    config = case("transcoder", "relu, l1")
    plan = plan_of(config, layouts(config)[0])
    weights, batch = random_parameters(config, plan), random_batch(config, plan)
    encoders = [Encoder(weights=member, proposer=Proposer(member["W_enc"], "float32"), dense=False) for member in weights.members]
    found = step(batch, weights, plan=plan, encoders=encoders, share=0.5)
    pre = batch.inputs[0] @ weights.members[0]["W_enc"].T + weights.members[0]["b_enc"]
    error = pre.relu() @ weights.members[0]["W_dec"] + weights.b_dec - batch.target
    torch.testing.assert_close(found.loss, error.square().mean())
    l1 = 0.3 * (pre.relu() * weights.members[0]["W_dec"].norm(dim=1)).sum() / ROWS / D**0.5
    torch.testing.assert_close(found.penalty, 0.5 * l1)
