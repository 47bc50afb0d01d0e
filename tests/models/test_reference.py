from pathlib import Path

import pytest

from microtome.errors import ModelNotFound
from microtome.models import ModelRef, parse_ref


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("demo", ModelRef("demo", "demo")),
        ("Qwen/Qwen2.5-7B-Instruct", ModelRef("hub", "Qwen/Qwen2.5-7B-Instruct")),
        ("Qwen/Qwen2.5-7B-Instruct@a09a354", ModelRef("hub", "Qwen/Qwen2.5-7B-Instruct", "a09a354")),
        ("gpt2@refs/pr/1", ModelRef("hub", "gpt2", "refs/pr/1")),
        ("tiny:gemma2", ModelRef("tiny", "gemma2")),
        ("tiny:gemma2@7", ModelRef("tiny", "gemma2", "7")),
    ],
)
def test_a_reference_reads_back_as_it_prints(text: str, wanted: ModelRef):
    assert parse_ref(text) == wanted
    assert str(wanted) == text
    assert ModelRef.from_json(wanted.to_json()) == wanted


def test_what_is_on_disk_is_a_folder_or_a_gguf_file(tmp_path: Path):
    file = tmp_path / "small.Q4_0.gguf"
    file.touch()
    assert parse_ref(str(tmp_path)).kind == "folder"
    assert parse_ref(str(file)).kind == "gguf"


def test_a_path_where_nothing_is_names_what_lies_beside(tmp_path: Path):
    (tmp_path / "smollm.gguf").touch()
    with pytest.raises(ModelNotFound) as caught:
        parse_ref(str(tmp_path / "smolm.gguf"))
    assert "smollm.gguf" in caught.value.do


@pytest.mark.parametrize("text", ["", "two words", "a/b/c", "../nowhere", "./nothing", "tiny:lama", "tiny:", "x@", "/no/such/model.gguf"])
def test_what_names_no_model_says_which_references_exist(text: str):
    with pytest.raises(ModelNotFound) as caught:
        parse_ref(text)
    assert "tiny:family" in str(caught.value.wanted)
