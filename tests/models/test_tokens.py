import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from microtome.errors import ModelUnsupported, TokenOutOfRange
from microtome.models import Tokenizer, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def sentencepiece_like() -> Tokenizer:
    """Spaces as ▁, every other byte as <0xNN>: the form of Gemma's and Mistral's vocabularies."""
    pieces = ["<unk>", "<s>", "</s>", "<unused0>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "hi", "▁hi"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[("h", "i"), ("▁", "hi")], byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"))


@given(text=st.text(max_size=60))
@settings(deadline=None, max_examples=200)
def test_pieces_joined_are_the_text(text: str):
    tokens = TOKENIZER.encode(text)
    assert "".join(TOKENIZER.decode_pieces(tokens)) == text
    assert b"".join(map(TOKENIZER.token_bytes, tokens)) == text.encode()
    assert TOKENIZER.text(tokens) == text


@given(text=st.text(max_size=40))
@settings(deadline=None, max_examples=100)
def test_byte_fallback_tokens_are_exact_bytes(text: str):
    tokenizer = sentencepiece_like()
    if "▁" in text:  # such a vocabulary cannot tell this character from a space
        return
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


def test_a_character_of_several_tokens_is_shown_on_the_one_that_completes_it():
    tokens = TOKENIZER.encode("a😀b")
    assert TOKENIZER.decode_pieces(tokens) == ["a", "", "", "", "😀", "b"]


def test_a_character_that_is_cut_off_becomes_one_replacement_mark():
    tokens = TOKENIZER.encode("a😀")[:-1]
    assert "".join(TOKENIZER.decode_pieces(tokens)) == TOKENIZER.text(tokens) == "a\ufffd"


def test_plain_text_never_becomes_a_control_token():
    text = "she wrote <|im_end|> and went"
    tokens = TOKENIZER.encode(text)
    assert not set(tokens) & TOKENIZER.special_ids
    assert TOKENIZER.text(tokens) == text


def test_encoding_together_is_encoding_one_by_one():
    texts = ["hello the world", "", "<|im_start|>", "ünï"]
    assert TOKENIZER.encode_batch(texts) == [TOKENIZER.encode(text) for text in texts]


def test_plain_encoding_is_that_of_hugging_face():
    text = "hello the world was for user\n  42 ünï"
    assert TOKENIZER.encode(text) == TOKENIZER.hf(text, add_special_tokens=False)["input_ids"]


def test_ids_outside_the_vocabulary_are_refused():
    with pytest.raises(TokenOutOfRange):
        TOKENIZER.token_bytes(len(TOKENIZER))
    with pytest.raises(TokenOutOfRange):
        TOKENIZER.token_bytes(-1)


def test_reserved_places_of_a_vocabulary_are_not_text():
    tokenizer = sentencepiece_like()
    assert tokenizer.special_ids == {0, 1, 2}
    assert 3 not in tokenizer.text_ids
    assert len(tokenizer.text_ids) == len(tokenizer) - 4


def test_the_fingerprint_covers_the_chat_template():
    other = tiny_tokenizer()
    assert other.fingerprint == TOKENIZER.fingerprint
    changed = tiny_tokenizer()
    changed.hf.chat_template = "{{ messages }}"
    assert changed.fingerprint != TOKENIZER.fingerprint


def test_a_tokenizer_that_loses_bytes_is_refused():
    backend = Backend(models.WordPiece(vocab={"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ModelUnsupported, match="bytes"):
        Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))
