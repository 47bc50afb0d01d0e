"""Pieces: exact text with no tokenizer at hand."""

from pathlib import Path

import numpy as np

from microtome.features.text import Vocabulary, quote
from microtome.models import tiny_tokenizer

TEXT = "Čapek's 日本 parrot 🦜 says\n“hello”"


def _vocabulary() -> Vocabulary:
    tokenizer = tiny_tokenizer()
    return Vocabulary.of(tokenizer.token_bytes, n_vocab=len(tokenizer))


def test_pieces_equal_those_of_the_tokenizer_and_join_to_the_text() -> None:
    tokens = tiny_tokenizer().encode(TEXT)
    pieces = _vocabulary().pieces(tokens)
    assert pieces == tiny_tokenizer().decode_pieces(tokens)
    assert "".join(pieces) == TEXT


def test_a_character_over_several_tokens_stands_on_the_last() -> None:
    tokens = tiny_tokenizer().encode("🦜")
    assert _vocabulary().pieces(tokens) == ["", "", "", "🦜"]


def test_a_window_that_begins_inside_a_character_shows_it_whole() -> None:
    vocabulary, tokens = _vocabulary(), np.array(tiny_tokenizer().encode("a🦜b"), dtype=np.int32)
    for start in range(1, 5):
        assert vocabulary.window(tokens, start=start, end=len(tokens), floor=0, ceiling=len(tokens))[-2:] == ["🦜", "b"][-(len(tokens) - start) :]
    assert vocabulary.window(tokens, start=2, end=6, floor=2, ceiling=6) == ["�", "�", "�", "b"], "nothing before the floor is read"


def test_all_windows_are_slices_of_the_whole() -> None:
    vocabulary, tokens = _vocabulary(), np.array(tiny_tokenizer().encode(TEXT), dtype=np.int32)
    whole = vocabulary.pieces(tokens)
    for start in range(len(tokens)):
        assert vocabulary.window(tokens, start=start, end=len(tokens), floor=0, ceiling=len(tokens)) == whole[start:]


def test_a_text_that_ends_inside_a_character_says_so() -> None:
    vocabulary, tokens = _vocabulary(), tiny_tokenizer().encode("a🦜")
    assert vocabulary.pieces(tokens[:3]) == ["a", "", "�"]


def test_consecutive_stretches_join_to_the_text_wherever_they_are_cut() -> None:
    """Every cut of emoji, CJK and broken bytes, for tokens of one to three bytes that cut the characters everywhere."""
    for size in (1, 2, 3):
        for raw in ("é🦜日本👩‍🚀x".encode(), b"a\xe6\x97A\xf0\x9f", b"\x80\xff\xf0\x9f\xa6 z"):
            parts = [raw[i : i + size] for i in range(0, len(raw), size)]
            vocabulary, tokens = Vocabulary.of(parts.__getitem__, n_vocab=len(parts)), np.arange(len(parts))
            n, text = len(parts), raw.decode(errors="replace")
            whole = vocabulary.pieces(tokens)
            assert "".join(whole) == text
            for start in range(n):
                for end in range(start + 1, n + 1):
                    assert vocabulary.window(tokens, start=start, end=end, floor=0, ceiling=n) == whole[start:end]


def test_one_token_alone_shows_its_bytes() -> None:
    vocabulary, tokens = _vocabulary(), tiny_tokenizer().encode("🦜")
    assert vocabulary.piece(tokens[0]) == "<0xF0>"
    assert vocabulary.piece(10**6) == ""


def test_it_survives_the_disk(tmp_path: Path) -> None:
    vocabulary = _vocabulary()
    vocabulary.write(tmp_path / "v.safetensors")
    read = Vocabulary.read(tmp_path / "v.safetensors")
    assert [read.bytes(i) for i in range(len(read))] == [vocabulary.bytes(i) for i in range(len(vocabulary))]


def test_quotes_make_the_unseen_visible() -> None:
    assert quote(' a\n"b"\t\x00') == '" a\\n\\"b\\"\\t<U+0000>"'
