"""Where training starts: the scale and centre of every site, the decoder's bias, and the rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from microtome.errors import ActivationsNotFinite, NotEnoughTokens
from microtome.models import Site
from microtome.shapes import Float, Tensor
from microtome.training.config import TrainConfig
from microtome.training.forward import Parameters
from microtome.training.group import ALONE, Group
from microtome.training.layout import Layout, Member
from microtome.training.rules import rule_of

_RIDGE = 0.1
"""Of the mean variance a column: keeps the linear map from few rows tame."""

_BLOCK = 4096
"""Rows of random numbers at a time: torch makes them 16 by 16, so blocks give the numbers that the whole would."""

_BOUND_ROWS = 8192
"""Rows whose pre-activations say where thresholds start."""


@dataclass(frozen=True, kw_only=True)
class SiteStart:
    """How a site's rows come into scaled units."""

    scale: float
    mean: Float[Tensor, "d"]
    """Of the scaled rows: what encoders that are not `centred` read is taken from here, and folded into their biases when the dictionary is made."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What every learning rate begins from."""

    weights: list[Parameters]
    """One a layout, in scaled units; not to be written into."""
    sites: dict[Site, SiteStart]

    def scaled(self, rows: Mapping[Site, Tensor]) -> dict[Site, Tensor]:
        """fp32 rows in scaled units, of the sites that are trained on."""
        return {site: rows[site].float() * start.scale for site, start in self.sites.items() if site in rows}

    def centre(self, member: Member) -> Float[Tensor, "d_in"]:
        """The mean of what a member reads."""
        return torch.cat([self.sites[site].mean for site in member.reads])


def start_from(rows: Mapping[Site, Tensor], config: TrainConfig, *, layouts: list[Layout], group: Group = ALONE) -> Start:
    """The start that a sample of rows gives; of the features, those that this process of a group holds.

    The scale makes the root mean square distance from the mean √d, so a scaled input has variance 1 a column on average. (Scaling the raw norm to
    √d, as Anthropic's April 2024 update does, leaves little variance where the mean is large, as it is in a residual stream.) The encoder's rows
    are random directions of norm `encoder_norm`; where thresholds choose, they start where each feature is active in `start_share` of the rows. A
    decoder row is what the best linear map from read to write makes of its encoder's direction, at norm 1: for an SAE, the direction itself.
    """
    sites = {site: _site_start(rows[site].float()) for site in config.sites}
    generator = torch.Generator().manual_seed(config.seed)
    weights = [
        _weights(layout, _scaled(layout, rows, sites), config=config, generator=generator, held=group.features(config.d_dict)) for layout in layouts
    ]
    return Start(weights=weights, sites=sites)


def _scaled(layout: Layout, rows: Mapping[Site, Tensor], sites: Mapping[Site, SiteStart]) -> dict[Site, Tensor]:
    """The sample of one layout's sites alone: of a set of layers, all at once would be large."""
    return {site: rows[site].float() * sites[site].scale for site in layout.sites}


def _site_start(sample: Float[Tensor, "n d"]) -> SiteStart:
    mean, width = sample.mean(0), sample.shape[1]
    spread = float((sample - mean).square().sum(1).mean())
    if not math.isfinite(spread):
        do = "Harvest again, in float32 if they are large; a model that gives NaN cannot be trained on."
        raise ActivationsNotFinite("the activations are not all finite.", got=f"variance {spread} over {len(sample)} rows", wanted="numbers", do=do)
    if spread <= 0:
        do = "Harvest more documents, or another site."
        raise NotEnoughTokens("the activations do not vary.", got=f"variance {spread} over {len(sample)} rows", wanted="above 0", do=do)
    scale = math.sqrt(width / spread)
    return SiteStart(scale=scale, mean=mean * scale)


def _weights(layout: Layout, sample: Mapping[Site, Tensor], *, config: TrainConfig, generator: torch.Generator, held: slice) -> Parameters:
    target = layout.target(sample)
    b_dec = geometric_median(target) if config.build.init == "geometric_median" else target.mean(0)
    width = target.shape[1] // len(layout.targets)
    rule = rule_of(config.nonlinearity, build=config.build)
    count = held.stop - held.start
    members: list[dict[str, Tensor]] = []
    for member, x in zip(layout.members, layout.inputs(sample), strict=True):
        directions = F.normalize(_random_rows(config.d_dict, x.shape[1], generator=generator, held=held), dim=1).to(x.device)
        written = target[:, member.first * width : (member.first + 1 if layout.tied else member.last) * width]
        weights = {"W_enc": directions * config.build.encoder_norm, "b_enc": torch.zeros(count, device=x.device)}
        if config.build.frozen_decoder:
            rows = _random_rows(config.d_dict, written.shape[1], generator=generator, held=held).to(x.device)
        else:
            rows = directions if written is x or torch.equal(written, x) else directions @ _linear_map(x, written)
        weights["W_dec"] = F.normalize(rows, dim=1) / (member.last - member.first if layout.tied else 1) ** 0.5
        weights |= {name: tensor.to(x.device) for name, tensor in rule.tensors(count).items()}
        read = x - (b_dec if layout.centred else x.mean(0))
        weights |= rule.open_at(_bounds(read[:_BOUND_ROWS], weights["W_enc"], share=config.start_share)) if rule.may_be_dense else {}
        if config.build.skip:
            weights["W_skip"] = torch.zeros(width, x.shape[1], device=x.device)
        members.append(weights)
    return Parameters(members=members, b_dec=b_dec)


def _bounds(x: Float[Tensor, "n d_in"], W_enc: Float[Tensor, "d_dict d_in"], *, share: float) -> Float[Tensor, "d_dict"]:
    """For each feature what W_enc x is above in `share` of the rows, but in one at least."""
    kept = max(1, round(share * len(x)))
    return torch.cat([(x @ block.T).topk(kept, dim=0).values[-1] for block in W_enc.split(_BLOCK)])


def _random_rows(n: int, d: int, *, generator: torch.Generator, held: slice) -> Float[Tensor, "held d"]:
    """The rows `held` of the n x d normal numbers that the generator gives next, without room for the others."""
    if held.stop - held.start == n:
        return torch.randn(n, d, generator=generator)
    rows = torch.empty(held.stop - held.start, d)
    first = 0
    while first < n:
        block = torch.randn(_BLOCK if n - first >= 2 * _BLOCK else n - first, d, generator=generator)
        low, high = max(first, held.start), min(first + len(block), held.stop)
        if low < high:
            rows[low - held.start : high - held.start] = block[low - first : high - first]
        first += len(block)
    return rows


def _linear_map(x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"]) -> Float[Tensor, "d_in d_out"]:
    """Ridge regression of centred y on centred x."""
    x, y = x - x.mean(0), y - y.mean(0)
    gram = x.T @ x
    ridge = _RIDGE * float(gram.diagonal().mean())
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), device=x.device), x.T @ y)


def geometric_median(rows: Float[Tensor, "n d"], *, iterations: int = 100, tolerance: float = 1e-5) -> Float[Tensor, "d"]:
    """The point with the least sum of distances to the rows (Weiszfeld 1937); far rows pull no harder than near ones."""
    point = rows.mean(0)
    for _ in range(iterations):
        weight = 1 / (rows - point).norm(dim=1).clamp_min(1e-6)
        moved = weight @ rows / weight.sum()
        shift = float((moved - point).norm() / (1e-12 + moved.norm()))
        point = moved
        if shift < tolerance:
            break
    return point
