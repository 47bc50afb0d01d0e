"""Generating under edits: with a key-value cache, in batches whose rows have their own edits and settings."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from microtome.conversation import Conversation
from microtome.dictionaries import Dictionary
from microtome.errors import EditInvalid
from microtome.models import Model, Site
from microtome.shapes import Float, Tensor
from microtome.steering.compose import Edits, EditSet, sets_for
from microtome.steering.growing import Ending, Growing, n_spoken
from microtome.steering.layout import Batch, Prompt, Row
from microtome.steering.plan import Plan
from microtome.steering.report import EditCount
from microtome.steering.sampling import Sampling, Stream, TokenChoice, pick

OnToken: TypeAlias = Callable[[int, TokenChoice], bool | None]
"""Called with the row and each token as it is chosen; False ends the row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """What was generated for one prompt."""

    prompt: Row
    choices: tuple[TokenChoice, ...]
    """The generated tokens, an end token included."""
    text: str
    """Without end token and without what stopped it."""
    ending: Ending
    activations: Mapping[Site, Float[Tensor, "n width"]]
    """Of the captured sites, a row a token, prompt and generated, as the model went on with them after all edits."""
    counts: tuple[EditCount, ...]
    """What each edit did."""
    n_edited: int
    """Tokens that at least one edit changed."""

    @property
    def n_spoken(self) -> int:
        """How many of the tokens are of the text: neither an end token nor what a stop text cut off."""
        return n_spoken(self.choices, self.text, ending=self.ending)

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(choice.token for choice in self.choices)

    @property
    def row(self) -> Row:
        """Prompt and generated tokens, ready to be read again."""
        n_prompt = len(self.prompt.prompt)
        return Row(tokens=(*self.prompt.tokens, *self.tokens), turns=self.prompt.turns, n_prompt=n_prompt)


@torch.no_grad()
def generate(
    model: Model,
    prompts: Prompt | Sequence[Prompt],
    *,
    edits: Edits = EditSet(),  # noqa: B008  # frozen
    sampling: Sampling | Sequence[Sampling] = Sampling(),  # noqa: B008  # frozen
    dictionaries: Mapping[str, Dictionary] | None = None,
    capture: Collection[Site] = (),
    on_token: OnToken | None = None,
    use_cache: bool = True,
) -> tuple[Generation, ...]:
    """Continue each prompt under edits. A row comes out as it would alone, whatever else is in the batch, with and without the cache.

    `edits` and `sampling` are one for all rows or one a row. A text is read as it is; a conversation up to the opening of the reply. A row ends
    with an end token, a stop text, `max_new_tokens`, or the model's context. Ids beyond the tokenizer are never chosen. Raises what
    `applied` raises, before anything runs, and `NothingToEdit` at the end for an edit that waited for a token that never came.
    """
    given = [prompts] if isinstance(prompts, str | Conversation | Row) else list(prompts)
    batch = Batch.of(model, given)
    samplings = [sampling] * len(given) if isinstance(sampling, Sampling) else list(sampling)
    if len(samplings) != len(given):
        do = "Give one for all rows, or one a row."
        raise EditInvalid("the settings do not fit the batch.", got=f"{len(samplings)} of them", wanted=len(given), do=do)
    run = _Run(model, batch, samplings=samplings, on_token=on_token)
    plan = Plan(model, batch, sets=sets_for(edits, len(given)), dictionaries=dictionaries, n_new=run.n_new)
    if plan.edits_cache and not use_cache:
        raise EditInvalid("a KV edit needs the cache.", got="use_cache=False", wanted="use_cache=True", do="Generate with the cache.")
    captured = _captured(model, capture)
    forward = _Forward(model, batch, plan=plan, use_cache=use_cache)
    with model.tap(read=captured, edit=plan.hooks) as seen:
        kept: dict[Site, list[Tensor]] = {site: [] for site in captured}
        logits = forward.prompt()
        while True:
            for site in captured:
                kept[site] = [*kept[site], seen[site]] if use_cache else [seen[site]]
            if run.is_over:
                break
            tokens = run.choose(logits)
            if run.is_over and not captured:
                break
            logits = forward.step(tokens)
    plan.end(run.lengths)
    whole = {site: torch.cat(parts, dim=1) for site, parts in kept.items()}
    return run.results(plan, whole)


def _captured(model: Model, sites: Collection[Site]) -> list[Site]:
    return [model.site(site) for site in dict.fromkeys(sites)]


class _Forward:
    """Runs the model over the columns of a batch as it grows."""

    def __init__(self, model: Model, batch: Batch, *, plan: Plan, use_cache: bool) -> None:
        self._hf: Any = model.hf
        self._device = model.device
        self._plan = plan
        self._use_cache = use_cache
        self._cache: Any = None
        self._tokens = batch.tokens.to(self._device)
        self._mask = batch.mask.to(self._device).long() if batch.is_padded else None
        lengths = batch.mask.long()
        self._positions = (lengths.cumsum(1) - 1).clamp_min(0).to(self._device)

    def prompt(self) -> Float[Tensor, "batch vocab"]:
        logits = self._run(0)
        if self._use_cache:
            self._plan.edit_cache(self._cache)
        return logits

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "batch vocab"]:
        """The generated tokens come after what was read; logits for what follows them."""
        column = self._tokens.shape[1]
        self._plan.take(tokens, column=column)
        new = torch.tensor(tokens, device=self._device)[:, None]
        self._tokens = torch.cat([self._tokens, new], dim=1)
        self._positions = torch.cat([self._positions, self._positions[:, -1:] + 1], dim=1)
        if self._mask is not None:
            self._mask = torch.cat([self._mask, torch.ones_like(new)], dim=1)
        return self._run(column if self._use_cache else 0)

    def _run(self, start: int) -> Float[Tensor, "batch vocab"]:
        self._plan.window(start, stop=self._tokens.shape[1])
        masked = {} if self._mask is None else {"attention_mask": self._mask}
        out = self._hf(
            input_ids=self._tokens[:, start:],
            position_ids=self._positions[:, start:],
            past_key_values=self._cache,
            use_cache=self._use_cache,
            logits_to_keep=1,
            **masked,
        )
        self._cache = out.past_key_values if self._use_cache else None
        return out.logits[:, -1]


class _Run:
    """The rows of a batch while they are generated."""

    def __init__(self, model: Model, batch: Batch, *, samplings: Sequence[Sampling], on_token: OnToken | None) -> None:
        self._batch = batch
        self._on_token = on_token
        self._streams = [Stream(sampling) for sampling in samplings]
        self._n_known = len(model.tokenizer)
        self.states = [Growing.of(model, row, sampling=each) for each, row in zip(samplings, batch.rows, strict=True)]
        self.n_new = max(state.limit for state in self.states)

    @property
    def is_over(self) -> bool:
        return all(state.ending is not None for state in self.states)

    @property
    def lengths(self) -> list[int]:
        return [len(state.choices) for state in self.states]

    def choose(self, logits: Float[Tensor, "batch vocab"]) -> list[int]:
        """The next token of each row; rows that ended go on with their last one, which nobody sees."""
        tokens: list[int] = []
        for row, picked in enumerate(pick(logits[:, : self._n_known], self._streams)):
            state = self.states[row]
            if state.ending is None:
                choice = state.take(picked)
                if self._on_token is not None and self._on_token(row, choice) is False and state.ending is None:
                    state.ending = "cancelled"
            tokens.append(state.choices[-1].token)
        return tokens

    def results(self, plan: Plan, activations: Mapping[Site, Tensor]) -> tuple[Generation, ...]:
        report = plan.report()
        results: list[Generation] = []
        for r, (state, row, start) in enumerate(zip(self.states, self._batch.rows, self._batch.starts, strict=True)):
            end = start + len(row.tokens) + len(state.choices)
            assert state.ending is not None
            results.append(
                Generation(
                    prompt=row,
                    choices=tuple(state.choices),
                    text=state.text,
                    ending=state.ending,
                    activations={site: values[r, start:end] for site, values in activations.items()},
                    counts=report.of_row(r),
                    n_edited=report.tokens[r],
                )
            )
        return tuple(results)
