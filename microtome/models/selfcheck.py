"""Proves that a model's sites mean what they say."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from microtome.errors import SelfCheckFailed
from microtome.models.discover import exact
from microtome.models.model import Model
from microtome.models.sites import Site
from microtome.shapes import Int, Tensor


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """One thing that was checked."""

    name: str
    ok: bool
    value: float
    """What was measured: a largest difference, absolute or relative to the largest activation, as `name` says."""
    limit: float


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """All rows of a self-check of one model."""

    model: str
    rows: tuple[CheckRow, ...]

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    def raise_if_failed(self) -> None:
        """Raise `SelfCheckFailed` naming the rows that failed, if any did."""
        failed = [f"{row.name}: {row.value:.3g} (limit {row.limit:.3g})" for row in self.rows if not row.ok]
        if failed:
            what = f"{self.model} loaded, but its sites do not mean what they say."
            do = "Do not trust figures from it; try dtype float32 and the newest transformers, then report the model."
            raise SelfCheckFailed(what, got="; ".join(failed), wanted="every check within its limit", do=do)


def selfcheck(model: Model, *, thorough: bool = True) -> CheckReport:
    """Run the model a few times on a dozen tokens and compare what must be equal.

    Not `thorough`, as on load: that an edit which changes nothing changes no bit, that captured values are those of a whole forward and of
    Hugging Face's own hidden states, and that residual = sum of parts. `thorough` adds padding, batching, causality, editing and the unembedding.
    """
    rows = [*_quick(model), *(_thorough(model) if thorough else ())]
    return CheckReport(model=model.ref, rows=tuple(rows))


def _quick(model: Model) -> Iterator[CheckRow]:
    tokens = _tokens(model, 12)
    inputs = model._inputs(tokens, None)
    with torch.no_grad():
        plain = model.hf(**inputs, use_cache=False, output_hidden_states=True)
        with model.tap(read=model.sites(), edit={site: lambda x: x.clone() for site in model.sites()}) as seen:
            tapped = model.hf(**inputs, use_cache=False).logits
    yield _row("values are finite (share that is not)", 1 - exact(torch.isfinite(tapped)).mean().item(), 0.0)
    yield _row("an edit that changes nothing: logits, largest difference", _far(plain.logits, tapped), 0.0)
    yield _row("resid_pre = Hugging Face's hidden states, largest difference", _hidden_gap(model, seen, plain.hidden_states), 0.0)
    yield _row("residual = sum of parts, relative to the largest", _parts_gap(model, seen), _tolerance(model))
    middle = [site for site in model.sites() if site.layer is not None and site.layer <= model.n_layers // 2]
    early = model.capture(tokens, middle)
    yield _row("a forward that stops early captures the same, largest difference", max(_far(early[s], seen[s]) for s in middle), 0.0)


def _thorough(model: Model) -> Iterator[CheckRow]:
    sites, loose = model.sites(), 1e-4 if model.dtype == torch.float32 else 0.1
    long, short = _tokens(model, 12), _tokens(model, 7)
    alone = model.capture(short, sites)
    scale = {site: max(1.0, value.abs().max().item()) for site, value in alone.items()}
    for side in ("left", "right"):
        tokens, mask = _padded(model, long, short, side=side)
        both = model.capture(tokens, sites, mask=mask)
        gap = max(_far(both[site][1][mask[1]], alone[site][0]) / scale[site] for site in sites)
        yield _row(f"padding on the {side}, in a batch: relative difference to the text alone", gap, loose)
    changed = long.clone()
    changed[0, -1] = (changed[0, -1] + 1) % model.n_vocab
    before, after = model.capture(long, sites), model.capture(changed, sites)
    gap = max(_far(before[site][:, :-1], after[site][:, :-1]) / scale[site] for site in sites)
    yield _row("a later token changes no earlier position, relative", gap, loose)
    last = Site("resid_post", model.n_layers - 1)
    moved = model.logits(long, edit={last: lambda x: 2 * x + 1})
    yield _row("an edit of the last residual reaches the logits (1 if it does not)", float(torch.equal(moved, model.logits(long))), 0.0)
    yield _row("final_norm through the unembedding gives the logits' ranking (share that differs)", _ranking_gap(model, long), 0.0)


def _hidden_gap(model: Model, seen: object, hidden: tuple[Tensor, ...]) -> float:
    assert isinstance(seen, dict)
    gaps = [_far(seen[Site("resid_pre", layer)], hidden[layer]) for layer in range(model.n_layers)]
    return max(*gaps, _far(seen[Site("final_norm")], hidden[-1]))


def _parts_gap(model: Model, seen: object) -> float:
    assert isinstance(seen, dict)
    gaps: list[float] = []
    for layer in range(model.n_layers):
        pre, attn, mlp, post = (exact(seen[Site(kind, layer)]) for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
        parts = pre + attn + mlp
        gaps.append(_far(post, parts) / max(1.0, post.abs().max().item()))
    return max(gaps)


def _ranking_gap(model: Model, tokens: Int[Tensor, "batch pos"]) -> float:
    last = model.capture(tokens, [Site("final_norm")])[Site("final_norm")]
    head = model.hf.get_output_embeddings()
    assert head is not None
    with torch.no_grad():
        return exact(head(last).argmax(-1) != model.logits(tokens).argmax(-1)).mean().item()


def _tokens(model: Model, n: int) -> Int[Tensor, "batch pos"]:
    """Ordinary tokens, spread over the vocabulary."""
    size, special = min(model.n_vocab, len(model.tokenizer)), model.tokenizer.special_ids
    spread = ((257 + 7919 * i) % size for i in range(n + len(special)))
    return torch.tensor([[token for token in spread if token not in special][:n]], device=model.device)


def _padded(model: Model, long: Tensor, short: Tensor, *, side: str) -> tuple[Tensor, Tensor]:
    n, k = long.shape[1], short.shape[1]
    tokens, mask = torch.full((2, n), model.tokenizer.pad, device=long.device), torch.ones((2, n), dtype=torch.bool, device=long.device)
    here = slice(n - k, n) if side == "left" else slice(0, k)
    tokens[0], tokens[1, here] = long[0], short[0]
    mask[1] = False
    mask[1, here] = True
    return tokens, mask


def _tolerance(model: Model) -> float:
    return 1e-5 if model.dtype == torch.float32 else 8 * torch.finfo(model.dtype).eps


def _far(left: Tensor, right: Tensor) -> float:
    return (exact(left) - exact(right)).abs().max().item()


def _row(name: str, value: float, limit: float) -> CheckRow:
    return CheckRow(name=name, ok=value <= limit, value=value, limit=limit)
