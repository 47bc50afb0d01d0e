"""Tiny seeded random models of ten families, and a byte-level tokenizer, made without a network: for tests and examples."""

from collections.abc import Mapping
from functools import cache, reduce
from typing import Any

import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast

from microtome.errors import ModelNotFound, nearest
from microtome.models.model import Model
from microtome.models.tokens import Tokenizer

TINY_FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "gpt_neox", "olmo2", "phi3")
"""Families of which `tiny` makes a model; every test of this room runs over all of them."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_WORDS = ("that", "the", "assistant", "system", "user", "hello", "world", "and", "was", "for", "of", "to", "in", "is", "ing", "on", "er", "ed", "es")
_PADDED_VOCABULARY = 64
"""The model's vocabulary is rounded up to a multiple of this, as real ones are: some rows belong to no token."""
_TYPES = {"gemma3": "gemma3_text"}
_EXTRA: Mapping[str, Mapping[str, Any]] = {
    "mistral": {"sliding_window": 16},
    "gemma2": {"query_pre_attn_scalar": 8, "sliding_window": 16},
    "gemma3": {"query_pre_attn_scalar": 8, "sliding_window": 16},
    "phi3": {"pad_token_id": 0},
}


def tiny(
    family: str,
    *,
    seed: int = 0,
    n_layers: int = 3,
    d_model: int = 32,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Model:
    """A random model of a family (`TINY_FAMILIES`) with 4 heads, a context of 128 tokens and a byte-level tokenizer.

    The same arguments give the same weights. Gains and biases are moved off their trivial start, so that a test that forgets one fails.
    """
    if family not in TINY_FAMILIES:
        what = f'there is no tiny model of "{family}".'
        raise ModelNotFound(what, got=family, wanted=", ".join(TINY_FAMILIES), do=nearest(family, TINY_FAMILIES))
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf = AutoModelForCausalLM.from_config(_config(family, len(tokenizer), n_layers=n_layers, d_model=d_model), dtype=torch.float32)
        for parameter in hf.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return Model(hf.to(device=device, dtype=dtype).eval().requires_grad_(False), tokenizer, ref=f"tiny:{family}@{seed}")


@cache
def _backend_json() -> str:
    alphabet = [chr(i) for i in _alphabet()]
    pieces, merges = list(alphabet), list[tuple[str, str]]()

    def merge(left: str, right: str) -> str:
        if left + right not in pieces:
            pieces.append(left + right)
            merges.append((left, right))
        return left + right

    for word in _WORDS:
        merge("Ġ", reduce(merge, word))
    backend = Backend(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _SPECIALS])
    return backend.to_str()


def tiny_tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer of about 350 tokens: every byte, a few English words, ChatML's control tokens and template."""
    hf = PreTrainedTokenizerFast(
        tokenizer_object=Backend.from_str(_backend_json()), bos_token=_SPECIALS[0], eos_token=_SPECIALS[2], pad_token=_SPECIALS[0]
    )
    hf.chat_template = CHAT_TEMPLATE
    return Tokenizer(hf)


def _alphabet() -> list[int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + [256 + i for i in range(256 - len(printable))]


def _config(family: str, n_tokens: int, *, n_layers: int, d_model: int) -> PreTrainedConfig:
    kind = CONFIG_MAPPING[_TYPES.get(family, family)]
    values: dict[str, Any] = {
        "hidden_size": d_model,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": d_model // 4,
        "intermediate_size": 2 * d_model,
        "max_position_embeddings": 128,
        "vocab_size": -(-n_tokens // _PADDED_VOCABULARY) * _PADDED_VOCABULARY,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": None,
    }
    known = vars(kind()).keys() | getattr(kind, "attribute_map", {}).keys()
    chosen = {name: value for name, value in values.items() if name in known} | dict(_EXTRA.get(family, {}))
    return kind(**chosen)
