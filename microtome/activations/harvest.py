"""Harvest: model × corpus × sites → shards.

Contexts of a shard are sorted by length and run in batches of like length, so that next to nothing is padding; the forward ends after the
last wanted site and computes no logits. On a CPU every core runs forwards of its own: cores that share one forward wait for each other at every
product, and that costs a quarter of their time. Which contexts share a batch depends on the corpus and the config alone, so an interrupted
harvest, run again, writes the same bytes, and on a CPU as many cores as there are write them too. A finished shard is never redone.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from microtome.activations.corpus import Corpus
from microtome.activations.shards import Shards, shard_name
from microtome.artifacts import Draft, existing
from microtome.devices import RunAll, pick_dtype
from microtome.errors import ActivationsNotFinite, ConfigError, ShapeMismatch
from microtome.models import Model, Site, faster_forward
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class HarvestConfig:
    """Where activations are read and how they are stored."""

    sites: tuple[Site, ...]
    dtype: str = "bfloat16"
    """Storage type: bfloat16, float16 or float32. A value that does not fit stops the harvest."""
    batch_tokens: int | None = None
    """Tokens a forward, padding included; None takes what suits the device, see `forward_tokens`."""
    shard_tokens: int = 65_536
    """A shard ends with the first document that brings it to this many tokens; what a kill can lose."""

    def __post_init__(self) -> None:
        if not self.sites or len(set(self.sites)) != len(self.sites):
            got = ", ".join(map(str, self.sites)) or "none"
            raise ConfigError("HarvestConfig.sites has an unfit value.", got=got, wanted="one or more distinct sites", do="Correct it.")
        pick_dtype(self.dtype)
        for name in ("batch_tokens", "shard_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"HarvestConfig.{name} has an unfit value.", got=value, wanted="1 or more", do="Correct it.")

    def forward_tokens(self, device: torch.device) -> int:
        """`batch_tokens`, or by default 512 on a CPU, where a forward's intermediates then stay in the cache, and 16,384 on a GPU."""
        if self.batch_tokens is not None:
            return self.batch_tokens
        return 512 if device.type == "cpu" else 16_384


def harvest(model: Model, corpus: Corpus, *, config: HarvestConfig, out: str | Path, progress: Progress | None = None) -> Shards:
    """Store the activations of every token of `corpus` at `config.sites` in the artifact `out`; resumes what was interrupted.

    Raises `ModelTapped` (inside a `model.tap`), `ShapeMismatch` (the corpus has another tokenizer or longer contexts than the model), `SiteNotFound`,
    `ActivationsNotFinite`, `WorkspaceBusy`, `ArtifactConflict` and `DiskFull`; what is finished stays.
    """
    check_model_fits(model, corpus)
    for site in config.sites:
        model.site(site)
    inputs = {"corpus": corpus.id, "model": model.fingerprint}
    done = existing(out, "shards", config=config, inputs=inputs)
    if done is not None:
        return Shards(done)
    workers = model.own_workers("harvesting")
    report = Throttled(progress)
    with Draft.open(out, "shards", config=config, inputs=inputs) as draft:
        ranges = shard_ranges(corpus, config.shard_tokens)
        with _Writer(draft) as writer, workers as run_all:
            for number, (start, end) in enumerate(ranges):
                if not draft.has(shard_name(number)):
                    writer.put(shard_name(number), _shard(model, corpus, config=config, span=(start, end), run_all=run_all, report=report))
                report("harvest", end, corpus.n_tokens, unit="tokens")
        return Shards(draft.finish(summary=_summary(draft, model, config=config, ranges=ranges)))


def shard_ranges(corpus: Corpus, shard_tokens: int) -> list[tuple[int, int]]:
    """Consecutive ranges of whole documents, each ended by the first document that brings it to `shard_tokens`."""
    ranges: list[tuple[int, int]] = []
    start = 0
    for end in corpus.doc_start[1:].tolist():
        if end - start >= shard_tokens or end == corpus.n_tokens:
            ranges.append((start, end))
            start = end
    return ranges


def context_batches(corpus: Corpus, *, span: tuple[int, int], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """The contexts inside `span`, longest first, in groups whose count × longest is at most `batch_tokens` (one context at least)."""
    first, last = np.searchsorted(corpus.context_start, span)
    yield from grouped(corpus, np.arange(first, last), batch_tokens=batch_tokens)


def grouped(corpus: Corpus, contexts: npt.NDArray[np.int64], *, batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """The given contexts, longest first, in groups whose count × longest is at most `batch_tokens` (one context at least)."""
    lengths = corpus.context_start[contexts + 1] - corpus.context_start[contexts]
    order = np.argsort(-lengths, kind="stable")
    at = 0
    while at < len(order):
        count = max(1, batch_tokens // int(lengths[order[at]]))
        yield contexts[order[at : at + count]]
        at += count


def _shard(model: Model, corpus: Corpus, *, config: HarvestConfig, span: tuple[int, int], run_all: RunAll, report: Throttled) -> dict[str, Tensor]:
    start, end = span
    dtype = pick_dtype(config.dtype)
    stored = {site: torch.empty(end - start, model.width(site), dtype=dtype) for site in config.sites}
    norms = {site: torch.empty(end - start) for site in config.sites}

    def store(contexts: npt.NDArray[np.int64]) -> int:
        """Run one batch and put its rows in their places; how many."""
        starts, ends = corpus.context_start[contexts], corpus.context_start[contexts + 1]
        values = capture_contexts(model, corpus, config=config, starts=starts, ends=ends)
        for site, padded in values.items():
            for row, (low, high) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
                stored[site][low - start : high - start] = padded[row, : high - low]
                norms[site][low - start : high - start] = torch.linalg.vector_norm(padded[row, : high - low], dim=-1, dtype=torch.float32)
        return int((ends - starts).sum())

    done = start
    for rows in run_all(store, context_batches(corpus, span=span, batch_tokens=config.forward_tokens(model.device))):
        done += rows
        report("harvest", done, corpus.n_tokens, unit="tokens")
    for site in config.sites:
        check_finite(model, stored[site], norms[site], site=site, corpus=corpus, config=config, start=start)
    keep = torch.from_numpy(corpus.keep[start:end].copy())
    for site in config.sites:
        keep &= ~sinks(norms[site], keep, corpus.config.sink_norm_ratio)
    return {**{str(site): x for site, x in stored.items()}, "keep": keep}


def capture_contexts(
    model: Model, corpus: Corpus, *, config: HarvestConfig, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> dict[Site, Float[Tensor, "batch pos d"]]:
    """Run contexts, padded on the right; causal attention lets no real token see the padding. Values are `Model.capture`'s up to rounding."""
    tokens = torch.zeros(len(starts), int((ends - starts).max()), dtype=torch.int64)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for row, (low, high) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        tokens[row, : high - low] = torch.from_numpy(corpus.tokens[low:high])
        mask[row, : high - low] = True
    with torch.inference_mode(), faster_forward(model.device):
        captured = model.capture(tokens, config.sites, mask=mask)
    return {site: x.cpu() for site, x in captured.items()}


def sinks(norms: Tensor, counted: Tensor, ratio: float | None) -> Tensor:
    """True where a norm exceeds `ratio` × the median norm of the shard's counted tokens."""
    if ratio is None or not bool(counted.any()):
        return torch.zeros_like(counted)
    return norms > ratio * norms[counted].median()


def check_finite(model: Model, x: Tensor, norms: Tensor, *, site: Site, corpus: Corpus, config: HarvestConfig, start: int) -> None:
    """Raise `ActivationsNotFinite` for the first row of `x`, the stored rows from position `start` on, that is not finite."""
    if bool(torch.isfinite(norms).all()) and x.dtype != torch.float16:
        return
    broken = (~torch.isfinite(x)).any(-1)
    if not bool(broken.any()):
        return
    first = start + int(broken.nonzero()[0])
    fits = bool(torch.isfinite(norms[first - start]))
    position = first if fits else _culprit(model, corpus, config=config, site=site, position=first)
    doc = int(corpus.doc_of([position])[0])
    within = position - corpus.span(doc).start
    row = x[position - start]
    what = f"the activation at {site} of document {doc} ({corpus.title(doc)}), token {within} (id {corpus.tokens[position]}), is not finite."
    got = f"{row[~torch.isfinite(row)][0].item()} at {site}: layer {'–' if site.layer is None else site.layer}, document {doc}, token {within}"
    do = "Store as bfloat16 or float32." if fits else "Load the model in float32, leave that document out, or check the weights."
    raise ActivationsNotFinite(what, got=got, wanted=f"finite values that fit {config.dtype}", do=do)


def _culprit(model: Model, corpus: Corpus, *, config: HarvestConfig, site: Site, position: int) -> int:
    """The token that breaks the context of `position`: the last of its shortest prefix that is not finite at `site`.

    Attention multiplies the values of later tokens by 0, and 0 × NaN is NaN, so that one bad token breaks the rows before it as well.
    """
    context = int(corpus.context_of([position])[0])
    start, end = (int(place) for place in corpus.context_start[context : context + 2])

    def breaks(stop: int) -> bool:
        x = capture_contexts(model, corpus, config=config, starts=np.array([start]), ends=np.array([stop]))[site]
        return not bool(torch.isfinite(x).all())

    low, high = start, end  # the prefix up to `low` is finite, that up to `high` is taken to be broken
    if not breaks(end):
        return position
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if breaks(middle) else (middle, high)
    return high - 1


def _summary(draft: Draft, model: Model, *, config: HarvestConfig, ranges: list[tuple[int, int]]) -> dict[str, Any]:
    kept = 0
    for number in range(len(ranges)):
        with safe_open(draft.path / shard_name(number), framework="pt") as tensors:
            kept += int(tensors.get_tensor("keep").sum())
    return {
        "model": model.ref,
        "quantised": model.quantised,
        "widths": {str(site): model.width(site) for site in config.sites},
        "dtype": config.dtype,
        "ranges": [list(span) for span in ranges],
        "tokens": ranges[-1][1],
        "kept": kept,
    }


def check_model_fits(model: Model, corpus: Corpus) -> None:
    """Raise `ShapeMismatch` when the corpus has another tokenizer than the model, or longer contexts."""
    if corpus.tokenizer_fingerprint != model.tokenizer.fingerprint:
        do = f"Build the corpus again with the tokenizer of {model.ref}."
        what = f"the corpus {corpus.path.name} was made with another tokenizer than {model.ref}'s."
        raise ShapeMismatch(what, got=corpus.tokenizer_fingerprint, wanted=model.tokenizer.fingerprint, do=do)
    longest = int(np.diff(corpus.context_start).max())
    if longest > model.max_context:
        do = "Build the corpus with a smaller context_length."
        raise ShapeMismatch("the corpus' contexts are longer than the model's.", got=longest, wanted=f"at most {model.max_context}", do=do)


class _Writer:
    """Writes shards one behind the other in a thread, while the next is computed; at most one waits."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shard-writer")
        self._pending: Future[None] | None = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._pool.shutdown(wait=True)

    def put(self, name: str, tensors: dict[str, Tensor]) -> None:
        self._wait()
        self._pending = self._pool.submit(self._write, name, tensors)

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, name: str, tensors: dict[str, Tensor]) -> None:
        with self._draft.place(name) as temporary:
            save_file(tensors, temporary)
