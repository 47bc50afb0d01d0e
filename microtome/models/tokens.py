"""Tokens: text to ids and back, byte for byte."""

import codecs
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

from transformers import PreTrainedTokenizerBase

from microtome.errors import ModelUnsupported, TokenOutOfRange

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_UNUSED = re.compile(r"<\|?(unused|reserved|extra_id)[\w -]*\|?>|\[(unused|pad)\w*\]", re.IGNORECASE)


class Tokenizer:
    """A Hugging Face tokenizer whose pieces are exact bytes.

    Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM2 …) and SentencePiece-like vocabularies with byte fallback (Gemma, Mistral, Phi-3 …) are
    understood; anything else is refused. Such a SentencePiece tokenizer may put one space before a text; it shows in `text`, as it is in the tokens.
    """

    def __init__(self, hf: PreTrainedTokenizerBase) -> None:
        backend = getattr(hf, "backend_tokenizer", None)
        if backend is None:
            do = "Use a model that ships a tokenizer.json."
            raise ModelUnsupported("this model's tokenizer has no fast form.", got=type(hf).__name__, wanted="a tokenizer.json", do=do)
        self.hf = hf
        self._backend: Any = backend
        self._added: dict[int, Any] = dict(hf.added_tokens_decoder)
        self._byte_level = _is_byte_level(backend)
        self._bytes: dict[int, bytes] = {}

    def __len__(self) -> int:
        """Ids run from 0 to this number, less one (some may be unused)."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; no token is put before or after it, and a special token spelled in the text is read as plain characters."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once, which is faster."""
        if any(map(self.spells_special, texts)):
            found: list[Any] = self._literal_backend.encode_batch(list(texts), add_special_tokens=False)
        else:
            found = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [list(one.ids) for one in found]

    def encode_template(self, text: str) -> list[int]:
        """Ids of a text in which special tokens are meant (the output of a chat template)."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def template_ends(self, text: str) -> list[int]:
        """For each token of `encode_template(text)`, the offset in the text's UTF-8 bytes at which it ends, by the tokenizer's own account."""
        ends = [end for _, end in self._backend.encode(text, add_special_tokens=False).offsets]
        widths = [0, *accumulate(len(char.encode()) for char in text)]
        return [widths[end] for end in ends]

    def spells_special(self, text: str) -> bool:
        """Whether a special token's name occurs in the text."""
        return self._specials is not None and self._specials.search(text) is not None

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes that a token stands for; a special token's are its name in UTF-8."""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._bytes_of(token)
        return known

    def text(self, tokens: Iterable[int]) -> str:
        """The text of the tokens; bytes that are not whole characters become U+FFFD."""
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", errors="replace")

    def decode_pieces(self, tokens: Sequence[int]) -> list[str]:
        """One string a token, whose concatenation is `text(tokens)`.

        A character whose bytes are spread over several tokens is shown on the token that completes it; the ones before show "" for it.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces = [decoder.decode(self.token_bytes(token)) for token in tokens]
        if pieces:
            pieces[-1] += decoder.decode(b"", final=True)
        return pieces

    def piece(self, token: int) -> str:
        """One token by itself, for lists of tokens: undecodable bytes as `\\xNN`."""
        return self.token_bytes(token).decode("utf-8", errors="backslashreplace")

    @property
    def bos(self) -> int | None:
        """Id of the beginning-of-sequence token, if there is one."""
        return _one(self.hf.bos_token_id)

    @property
    def eos(self) -> int | None:
        """Id of the end-of-sequence token, if there is one."""
        return _one(self.hf.eos_token_id)

    @property
    def pad(self) -> int:
        """An id to fill padding with: the tokenizer's own, else `eos`, else 0. Masked positions never influence others."""
        pad = _one(self.hf.pad_token_id)
        return next((token for token in (pad, self.eos) if token is not None), 0)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of control tokens, which plain text never contains."""
        special = {token for token, added in self._added.items() if added.special}
        return frozenset(special | set(self.hf.all_special_ids))

    @cached_property
    def text_ids(self) -> frozenset[int]:
        """Ids that text can contain: neither special nor a reserved or unused place of the vocabulary."""
        pieces = enumerate(self._pieces)
        return frozenset(i for i, piece in pieces if piece is not None and i not in self.special_ids and not _UNUSED.fullmatch(piece))

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template, if the tokenizer has one."""
        template = self.hf.chat_template
        return template if isinstance(template, str) else None

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the sha256 of the whole tokenizer (vocabulary, merges, normaliser, template)."""
        content = self._backend.to_str() + "\0" + (self.chat_template or "")
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _pieces(self) -> list[str | None]:
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        pieces: list[str | None] = [None] * (max(vocabulary.values()) + 1)
        for piece, token in vocabulary.items():
            pieces[token] = piece
        return pieces

    @cached_property
    def _specials(self) -> re.Pattern[str] | None:
        names = [re.escape(added.content) for added in self._added.values() if added.special]
        return re.compile("|".join(names)) if names else None

    @cached_property
    def _literal_backend(self) -> Any:
        twin = type(self._backend).from_str(self._backend.to_str())
        twin.encode_special_tokens = True
        return twin

    def _bytes_of(self, token: int) -> bytes:
        piece = self._pieces[token] if 0 <= token < len(self._pieces) else None
        if piece is None:
            what = f"token {token} is not in the tokenizer's vocabulary."
            raise TokenOutOfRange(what, got=token, wanted=f"0 to {len(self._pieces) - 1}", do="Use ids made by this model's tokenizer.")
        if token in self._added:
            return self._added[token].content.encode()
        if self._byte_level:
            table = _byte_alphabet()
            return bytes(table[char] for char in piece)
        as_byte = _BYTE_PIECE.fullmatch(piece)
        return bytes([int(as_byte[1], 16)]) if as_byte else piece.replace("▁", " ").encode()


def _one(token: object) -> int | None:
    return token if isinstance(token, int) else None


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte, inverted (Radford et al. 2019, `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _is_byte_level(backend: Any) -> bool:
    decoder = repr(backend.decoder)
    if "ByteLevel" in decoder:
        return True
    if "ByteFallback" in decoder or "Metaspace" in decoder:
        return False
    do = "Use a model with a byte-level BPE or a SentencePiece tokenizer."
    raise ModelUnsupported("this model's tokenizer does not keep the bytes of a text.", got=decoder[:120], wanted="ByteLevel or ByteFallback", do=do)
