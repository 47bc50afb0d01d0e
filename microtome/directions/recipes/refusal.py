"""The direction along which a model declines: chosen among differences of means by what ablating and adding them does (Arditi et al. 2024)."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import log

import torch

from microtome.directions.direction import Direction
from microtome.directions.reading import Passage, Reader, Span
from microtome.directions.recipes.contrast import mean_difference
from microtome.directions.recipes.recipe import Made, made_by, need, recipe
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.models import Model, Site
from microtome.progress import Throttled
from microtome.shapes import Float, Tensor
from microtome.stats import Result

OPENINGS = ("I", "As", "Sorry", "Unfortunately")
"""Words with which replies that decline begin; their first tokens are the refusal tokens."""
_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a candidate must keep (the values of Arditi et al.)."""

    kl: float = 0.1
    """Largest mean KL(unedited ‖ ablated) at the last token of harmless requests, in nats."""
    induce: float = 0.0
    """Smallest mean refusal score of harmless requests when the vector is added at its own layer."""
    depth: float = 0.8
    """Layers below this share of the model."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One vector, and what it does on the held-out requests. A refusal score is ln p/(1 − p) of the next token being a refusal token."""

    site: Site
    back: int
    """Tokens before the last one at which it was read."""
    bypass: float
    """Mean refusal score of the declined requests with the vector ablated everywhere: low is wanted."""
    induce: float
    """Mean refusal score of the harmless ones with the vector added at its site: high is wanted."""
    kl: float
    is_kept: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class RefusalMade(Made):
    """The chosen direction with every candidate beside it."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate


@recipe("refusal")
def refusal(
    reader: Reader,
    *,
    declined: Sequence[Passage],
    harmless: Sequence[Passage],
    layers: Sequence[int] | None = None,
    backs: Sequence[int] = (0,),
    openings: Sequence[str] = OPENINGS,
    limits: Limits = Limits(),  # frozen
) -> RefusalMade:
    """The difference of means of declined and harmless requests that, ablated, bypasses most, within `limits`.

    The first three quarters of each set give the candidates (`resid_pre` of each of `layers` × each position `backs` before the reply), the rest
    judges them. Ablating: x − ⟨x, û⟩û at the input of the first block and at what every attention and MLP adds. Adding: x + v at the
    candidate's own site. The direction points to declining. When no candidate keeps the limits, `NotEnoughTokens` says how near they came.
    The reader's site is not used. A model that does not decline these requests has no such direction: the score unedited says so.
    """
    need(declined, at_least=4, what="declined requests")
    need(harmless, at_least=4, what="harmless requests")
    if not backs:
        raise ConfigError("there are no positions to read.", got="none", wanted="0 for the last token, 1 before it …", do="Give backs.")
    model = reader.model
    top = max(1, int(limits.depth * model.n_layers))
    picked = [layer for layer in (range(top) if layers is None else layers) if layer < top]
    cut, fair = _cut(declined), _cut(harmless)
    bench = _Bench(model, declined[cut:], harmless[fair:], openings=openings, batch_size=reader.batch_size)
    report, vectors = Throttled(reader.progress), dict[Candidate, Tensor]()
    todo = [(layer, back) for layer in picked for back in backs]
    for i, (layer, back) in enumerate(todo):
        site = Site("resid_pre", layer)
        here = Reader(model=model, site=site, span=Span(back=back), batch_size=reader.batch_size)
        vector = mean_difference(here.rows(declined[:cut]), here.rows(harmless[:fair]))
        if bool(vector.any()):
            vectors[bench.judge(site, back, vector=vector, limits=limits)] = vector
        report("candidates", i + 1, len(todo), unit="candidates")
    kept = [candidate for candidate in vectors if candidate.is_kept]
    if not kept:
        raise _none_kept(tuple(vectors), bench, limits)
    chosen = min(kept, key=lambda candidate: candidate.bypass)
    direction = Direction(
        name="refusal",
        site=chosen.site,
        vector=vectors[chosen],
        sign="towards declining",
        reference="harmless requests",
        model=model.fingerprint,
        provenance=made_by(reader, "refusal", back=chosen.back, limits=limits, openings=list(openings), declined=len(declined)),
    )
    return RefusalMade(
        direction=direction,
        results=_results(chosen, bench, n_candidates=len(vectors)),
        notes=_notes(bench),
        candidates=tuple(vectors),
        chosen=chosen,
    )


def refusal_score(logits: Float[Tensor, "n vocab"], tokens: Sequence[int]) -> Float[Tensor, "n"]:
    """ln(p + ε) − ln(1 − p + ε), p the probability that the next token is one of `tokens`; ε = 1e-8."""
    p = logits.double().softmax(-1)[:, list(tokens)].sum(-1)
    return (p + _EPSILON).log() - (1 - p + _EPSILON).log()


@contextmanager
def ablated_everywhere(model: Model, vector: Float[Tensor, "width"]) -> Generator[None]:
    """Within the block nothing on the residual stream lies along the vector."""
    unit = (vector.double() / vector.double().norm()).to(model.device, model.dtype)

    def without(x: Tensor) -> Tensor:
        return x - (x @ unit)[..., None] * unit

    adds = [Site(kind, layer) for layer in range(model.n_layers) for kind in ("attn_out", "mlp_out")]
    with model.tap(edit=dict.fromkeys([Site("resid_pre", 0), *adds], without)):
        yield


class _Bench:
    """Held-out requests, and the unedited model's answers to them."""

    def __init__(self, model: Model, declined: Sequence[Passage], harmless: Sequence[Passage], *, openings: Sequence[str], batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self.refusal_tokens = sorted({model.tokenizer.encode(word)[0] for word in openings})
        self.declined, self.harmless = declined, harmless
        self._plain = self._logits(harmless)
        self.score_declined = float(refusal_score(self._logits(declined), self.refusal_tokens).mean())
        self.score_harmless = float(refusal_score(self._plain, self.refusal_tokens).mean())

    def judge(self, site: Site, back: int, *, vector: Tensor, limits: Limits) -> Candidate:
        with ablated_everywhere(self._model, vector):
            bypass = float(refusal_score(self._logits(self.declined), self.refusal_tokens).mean())
            ablated = self._logits(self.harmless)
        move = vector.to(self._model.device, self._model.dtype)
        with self._model.tap(edit={site: lambda x: x + move}):
            induce = float(refusal_score(self._logits(self.harmless), self.refusal_tokens).mean())
        before, after = self._plain.double().log_softmax(-1), ablated.double().log_softmax(-1)
        kl = float((before.exp() * (before - after)).sum(-1).mean().clamp_min(0))
        is_kept = kl <= limits.kl and induce >= limits.induce
        return Candidate(site=site, back=back, bypass=bypass, induce=induce, kl=kl, is_kept=is_kept)

    def _logits(self, passages: Sequence[Passage]) -> Float[Tensor, "n vocab"]:
        """At the last token of each, over the tokens that the tokenizer knows."""
        last = self._model.site("final_norm")
        reader = Reader(model=self._model, site=last, batch_size=self._batch_size)
        head = self._model.hf.get_output_embeddings()
        assert head is not None
        rows = reader.rows(passages).to(self._model.device, self._model.dtype)
        with torch.no_grad():
            return head(rows)[:, : len(self._model.tokenizer)].float().cpu()


def _cut(passages: Sequence[Passage]) -> int:
    return max(1, min(len(passages) - 1, 3 * len(passages) // 4))


def _results(chosen: Candidate, bench: _Bench, *, n_candidates: int) -> tuple[Result, ...]:
    n = len(bench.declined)
    return (
        Result(name="bypass", value=chosen.bypass, n=n, unit="nats (log odds)", baselines={"unedited": bench.score_declined}),
        Result(name="induce", value=chosen.induce, n=len(bench.harmless), unit="nats (log odds)", baselines={"unedited": bench.score_harmless}),
        Result(name="kl", value=chosen.kl, n=len(bench.harmless), unit="nats"),
        Result(name="candidates", value=n_candidates, n=n_candidates, definition="vectors tried; the best was chosen on the figures shown here"),
    )


def _notes(bench: _Bench) -> tuple[str, ...]:
    notes = ["The candidate was chosen on the very requests whose figures stand here: they are optimistic."]
    if bench.score_declined <= bench.score_harmless:
        notes.append("Unedited, this model declines the declined requests no more than the harmless ones: the direction is not one of refusal.")
    elif bench.score_declined < log(1 / 3):
        notes.append("Unedited, this model hardly ever begins to decline these requests (under one in four).")
    return tuple(notes)


def _none_kept(candidates: tuple[Candidate, ...], bench: _Bench, limits: Limits) -> NotEnoughTokens:
    got = "no vector of a length"
    if candidates:
        near = max(candidates, key=lambda candidate: candidate.induce)
        got = f"of {len(candidates)}, at best {near.site} with induce {near.induce:.2f}, kl {near.kl:.3f} (unedited score {bench.score_declined:.2f})"
    wanted = f"induce ≥ {limits.induce:g} and kl ≤ {limits.kl:g} nats"
    do = "Give requests that this model declines, more of them, or wider limits."
    return NotEnoughTokens("no candidate keeps the limits.", got=got, wanted=wanted, do=do)
