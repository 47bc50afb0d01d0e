"""Tokens as text without a tokenizer: the exact bytes of every vocabulary entry, kept in the index."""

import codecs
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np

from microtome.features.arrays import Array, open_arrays, write_arrays

_LEAD = 3
"""A UTF-8 character has at most 4 bytes, so at most 3 tokens before a window can hold the beginning of its first one."""


class Vocabulary:
    """The bytes of each token id; makes pieces whose concatenation is the exact text."""

    def __init__(self, content: Array, offsets: Array) -> None:
        self._content = content.tobytes()
        self._offsets: list[int] = offsets.tolist()
        self._whole = [decoded(self._content[start:end]) for start, end in pairwise(self._offsets)]
        """The text of each token, None where its bytes are no whole characters."""

    @classmethod
    def of(cls, token_bytes: Callable[[int], bytes], *, n_vocab: int) -> "Vocabulary":
        """Ask for the bytes of every id once."""
        entries = [token_bytes(token) for token in range(n_vocab)]
        offsets = np.cumsum([0, *map(len, entries)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(entries), dtype=np.uint8), offsets)

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        arrays = open_arrays(path)
        return cls(arrays["bytes"], arrays["offsets"])

    def write(self, path: Path) -> None:
        write_arrays(path, {"bytes": np.frombuffer(self._content, dtype=np.uint8), "offsets": np.asarray(self._offsets, dtype=np.int64)})

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def bytes(self, token: int) -> bytes:
        """The exact bytes of one token (b"" for an id beyond the table)."""
        if not 0 <= token < len(self):
            return b""
        return self._content[self._offsets[token] : self._offsets[token + 1]]

    def pieces(self, tokens: Sequence[int] | Array, *, lead: int = 0, final: bool = True) -> list[str]:
        """One string a token; a character spread over tokens stands on the last of them, the earlier ones are "".

        Bytes that are no UTF-8 become U+FFFD. The first `lead` tokens are read for their bytes only and get no piece. When the text goes on
        (`final` is false) an unfinished character at the end is "", else U+FFFD.
        """
        ids: list[int] = tokens.tolist() if isinstance(tokens, np.ndarray) else list(tokens)
        n, whole = len(self), self._whole
        found = [whole[token] if 0 <= token < n else "" for token in ids]
        pieces = self._joined(ids, found, final=final) if None in found else found
        return cast("list[str]", pieces)[lead:]

    def _joined(self, ids: Sequence[int], found: Sequence[str | None], *, final: bool) -> list[str]:
        """Pieces where some tokens are no whole characters: those, and what follows an unfinished one, go through a decoder."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces: list[str] = []
        pending = False
        for token, known in zip(ids, found, strict=True):
            if known is not None and not pending:
                pieces.append(known)
            else:
                pieces.append(decoder.decode(self.bytes(token)))
                pending = bool(decoder.getstate()[0])
        if final:
            pieces[-1] += decoder.decode(b"", True)
        return pieces

    def window(self, tokens: Array, *, start: int, end: int, floor: int, ceiling: int) -> list[str]:
        """Pieces of `tokens[start:end]` of the text `tokens[floor:ceiling]`: the same that the whole text has there, so stretches join to it.

        A character that begins before `start` stands whole on the token that completes it; one that `end` cuts is "" here.
        """
        lead = min(_LEAD, start - floor)
        return self.pieces(tokens[start - lead : end], lead=lead, final=end >= ceiling)

    def piece(self, token: int) -> str:
        """One token on its own, for lists: bytes that are no whole character are shown as `<0xE2>`."""
        raw = self.bytes(token)
        known = decoded(raw)
        return known if known is not None else "".join(f"<0x{byte:02X}>" if byte > 127 else chr(byte) for byte in raw)


def quote(piece: str) -> str:
    """A piece in double quotes with its line breaks and tabs made visible."""
    shown = piece.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t").replace('"', '\\"')
    return f'"{re.sub(_UNSEEN, lambda match: f"<U+{ord(match[0]):04X}>", shown)}"'


_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff]")


def decoded(raw: bytes) -> str | None:
    """The text of some bytes, None where they are no whole characters."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
