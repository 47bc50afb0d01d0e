"""Models under edits as models of Inspect, in this process: `inspect eval task.py --model microtome/demo`, or `microtome/NAME` of a saved variant.

Inspect finds this file by the entry point `inspect_ai`; nothing else imports it. Model arguments (`-M`): `workspace` (where variants and the
names in edits are looked up), `edits` (JSON, or a file of it), `device`, `rows` (generated at once). It is the engine of the server without one.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    TopLogprob,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from microtome.artifacts import Workspace
from microtome.conversation import Conversation, from_messages
from microtome.errors import QueryInvalid
from microtome.models import load
from microtome.steering.compose import EditSet
from microtome.steering.generate import Generation
from microtome.steering.growing import Ending
from microtome.steering.sampling import Sampling, TokenChoice
from microtome.steering.serving.engine import Engine, Limits, Request
from microtome.steering.serving.library import Library

_REASONS: dict[Ending, StopReason] = {"eos": "stop", "stop": "stop", "length": "max_tokens", "time": "max_tokens", "cancelled": "unknown"}
_NOT_HONOURED = ("frequency_penalty", "presence_penalty", "logit_bias", "response_schema")
_DEFAULT_NEW_TOKENS = 2048


@modelapi(name="microtome")
class MicrotomeAPI(ModelAPI):
    """A model, or a saved variant of one, as Inspect calls it."""

    def __init__(  # noqa: PLR0917  # Inspect's own signature
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  # Inspect's own signature
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        unknown = sorted(model_args.keys() - {"workspace", "edits", "device", "rows"})
        if unknown:
            wanted, do = "workspace, edits, device, rows", "Leave it out."
            raise QueryInvalid("there is no such argument of a microtome model.", got=", ".join(unknown), wanted=wanted, do=do)
        place = model_args.get("workspace") or os.environ.get("MICROTOME_WORKSPACE", "microtome-workspace")
        self.library = Library(Workspace(place))
        kept = EditSet()
        if model_name in self.library.workspace.names("variant"):
            variant = self.library.variant(model_name)
            model_name, kept = variant.model, variant.edits
            self.library.open_named(kept)
        given = _edits(self.library, model_args.get("edits"))
        self.edits = (
            EditSet(edits=(*kept.edits, *given.edits), on_conflict=given.on_conflict, on_unmatched=given.on_unmatched) if given.edits else kept
        )
        model = load(model_name, device=str(model_args.get("device", "auto")), selfcheck=False)
        limits = Limits(rows=int(model_args.get("rows", 32)), waiting=4096, new_tokens=max(_DEFAULT_NEW_TOKENS, config.max_tokens or 0))
        self.engine = Engine(model, limits=limits)

    async def generate(  # noqa: PLR0917  # Inspect's own signature
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """The model's answers under the edits."""
        del tool_choice
        asked = [name for name in _NOT_HONOURED if getattr(config, name)] + (["tools"] if tools else [])
        if asked:
            raise QueryInvalid("the model cannot do what the task asks for.", got=", ".join(asked), wanted="plain chat", do="Take another task.")
        sampling = Sampling(
            max_new_tokens=config.max_tokens or _DEFAULT_NEW_TOKENS,
            temperature=1.0 if config.temperature is None else float(config.temperature),
            top_p=1.0 if config.top_p is None else float(config.top_p),
            top_k=config.top_k,
            seed=config.seed or 0,
            stop=tuple(config.stop_seqs or ()),
            top_logprobs=(config.top_logprobs or 0) if config.logprobs else 0,
        )
        one = Request(prompt=_conversation(input), edits=self.edits, sampling=sampling, dictionaries=self.library.dictionaries)
        tickets = await asyncio.to_thread(self.engine.submit, one.choices(config.num_choices or 1))
        try:
            made = [await asyncio.wrap_future(ticket.future) for ticket in tickets]
        finally:
            for ticket in tickets:
                ticket.cancel()
        return self._output(made, has_logprobs=bool(config.logprobs))

    def max_connections(self) -> int:
        """As many as are generated at once."""
        return self.engine.limits.rows

    def close(self) -> None:
        """End the engine."""
        self.engine.close()

    def _output(self, rows: Sequence[Generation], *, has_logprobs: bool) -> ModelOutput:
        choices = [
            ChatCompletionChoice(
                message=ChatMessageAssistant(content=row.text, model=self.model_name, source="generate"),
                stop_reason=_REASONS[row.ending],
                logprobs=Logprobs(content=[self._logprob(each) for each in row.choices[: row.n_spoken]]) if has_logprobs else None,
            )
            for row in rows
        ]
        read, written = len(rows[0].prompt.tokens), sum(len(row.tokens) for row in rows)
        return ModelOutput(
            model=self.model_name,
            choices=choices,
            usage=ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written),
            metadata={"edits": self.edits.fingerprint if self.edits.edits else None, "tokens_edited": [row.n_edited for row in rows]},
        )

    def _logprob(self, choice: TokenChoice) -> Logprob:
        tokenizer = self.engine.model.tokenizer

        def said(token: int) -> dict[str, Any]:
            exact = tokenizer.token_bytes(token)
            return {"token": exact.decode("utf-8", errors="replace"), "bytes": list(exact)}

        top = [TopLogprob(**said(each.token), logprob=each.logprob) for each in choice.top]
        return Logprob(**said(choice.token), logprob=choice.logprob, top_logprobs=top)


def _edits(library: Library, given: Any) -> EditSet:
    """Those of a model argument: JSON, its text, or a file of it."""
    if given is None:
        return EditSet()
    if isinstance(given, str) and not given.lstrip().startswith(("[", "{")):
        given = Path(given).read_text(encoding="utf-8")
    return library.edits(json.loads(given) if isinstance(given, str) else given)


def _conversation(messages: Sequence[ChatMessage]) -> Conversation:
    for message in messages:
        if not isinstance(message.content, str) and any(part.type != "text" for part in message.content):
            raise QueryInvalid("a message holds more than text.", got=message.role, wanted="text", do="Take another task.")
    return from_messages([{"role": message.role, "content": message.text} for message in messages])
