"""For the tests of those who extend microtome: tiny models that need no network, and checks that a new part keeps its promises."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from microtome.dictionaries import Dictionary, DictionarySet, SparseCodes, read_any, write_weights
from microtome.dictionaries.formats import FORMATS, Format, Hints
from microtome.errors import DictionaryInvalid, FeatureNotFound, FormatUnsupported, PickleRefused, SelfCheckFailed, ShapeMismatch
from microtome.models import TINY_FAMILIES, Model, Site, selfcheck, tiny, tiny_tokenizer
from microtome.shapes import Float, Tensor
from microtome.steering import Edit, prove_edit

__all__ = ["TINY_FAMILIES", "check_dictionary", "check_edit", "check_format", "check_model", "tiny", "tiny_tokenizer"]

_ROWS = 48
_CLOSE = 1e-4


def check_model(model: Model) -> None:
    """Raise `SelfCheckFailed` unless the model's sites mean what they say, in every respect that `microtome check` looks at."""
    selfcheck(model).raise_if_failed()


def check_edit(edit: Edit, model: Model, *, dictionaries: Mapping[str, Dictionary] | None = None) -> None:
    """Raise `SelfCheckFailed` unless an edit keeps the promises of `microtome.steering`: JSON, dose 0, restoring, padding, batch and cache."""
    prove_edit(edit, model, dictionaries=dictionaries)


def check_dictionary(dictionary: Dictionary | DictionarySet, *, rows: Float[Tensor, "n d_in"] | None = None, stored: bool = True) -> None:
    """Raise `SelfCheckFailed` unless a dictionary, or every member of a set, keeps the promises of `Dictionary`.

    Codes are finite, in range and without repeats; what is decoded is the sum of value times direction and what nothing decodes to, at every site
    written; `direction` and `encoder_direction` are rows of their tables; a row's reconstruction does not depend on the rows beside it; rows of
    another width and features that are not there are refused; and, with `stored`, the native format gives back the same dictionary. `rows` are
    activations to try (default: random ones that make features active); where a choice is a near tie, one row in twenty may fall otherwise.
    """
    if isinstance(dictionary, DictionarySet):
        for member in dictionary.members:
            check_dictionary(member, rows=rows, stored=False)
    else:
        x = sample_rows(dictionary) if rows is None else rows
        codes = dictionary.encode(x)
        _check_codes(dictionary, codes, x)
        _check_additive(dictionary, codes)
        _check_directions(dictionary, codes)
        _check_alone(dictionary, x)
        _check_refusals(dictionary)
    if stored:
        _check_round_trip(dictionary, rows)


def check_format(format_name: str, dictionary: Dictionary | DictionarySet) -> None:
    """Raise `SelfCheckFailed` unless a registered format that can be written keeps the promises of `Format` for this dictionary.

    What is written is detected, by the files that a reading needs and no others; it reads and writes the same sites and gives equal outputs; what is
    read and written again gives the same outputs to the bit; a folder without files is not detected; a truncated file is a named error.
    """
    form = FORMATS.get(format_name)
    with tempfile.TemporaryDirectory() as name:
        first, alone, second = (Path(name) / part for part in ("first", "alone", "second"))
        form.write(dictionary, first, about={})
        names = [file.relative_to(first).as_posix() for file in sorted(first.rglob("*")) if file.is_file()]
        files = form.detect(names)
        _require(bool(files) and set(files) <= set(names), "what is written is detected", got=", ".join(names))
        _require(not form.detect(()), "a folder without files is not detected")
        for file in files:
            (alone / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(first / file, alone / file)
        read = form.read(alone, hints=Hints(name=str(alone)))
        _same_outputs(dictionary, read.dictionary, exactly=False)
        form.write(read.dictionary, second, about=read.about)
        _same_outputs(read.dictionary, form.read(second, hints=Hints(name=str(second))).dictionary, exactly=True)
        _check_truncated(form, alone, files)


def _same_outputs(mine: Dictionary | DictionarySet, theirs: Dictionary | DictionarySet, *, exactly: bool) -> None:
    before, after = ((each.members if isinstance(each, DictionarySet) else (each,)) for each in (mine, theirs))
    _require([each.reads for each in before] == [each.reads for each in after], "the format keeps the sites read")
    for one, other in zip(before, after, strict=True):
        _require(one.writes == other.writes, "the format keeps the sites written", got=", ".join(map(str, other.writes)))
        x = sample_rows(one).cpu()
        for write in one.writes:
            made, again = one.to("cpu").reconstruct(x, write=write), other.reconstruct(x, write=write)
            _require(torch.equal(made, again) if exactly else _near(made, again), "the format gives back equal outputs")


def _check_truncated(form: Format, folder: Path, files: tuple[str, ...]) -> None:
    file = max((folder / name for name in files), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    try:
        form.read(folder, hints=Hints(name=str(folder)))
    except (DictionaryInvalid, FormatUnsupported, PickleRefused):
        return
    _require(False, "a truncated file is a named error", got=file.name)


def sample_rows(dictionary: Dictionary) -> Float[Tensor, "n d_in"]:
    """Random rows on the dictionary's device, each near the line of a feature's encoder direction, so that some features are active."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(_ROWS, dictionary.d_in, generator=generator)
    toward = dictionary.encoder_directions()[torch.randint(dictionary.d_dict, (_ROWS,), generator=generator)]
    scale = toward.square().sum(1, keepdim=True).clamp_min(1e-12)
    return noise.to(toward) / scale.sqrt() + 2 * toward / scale


def _check_codes(dictionary: Dictionary, codes: SparseCodes, x: Tensor) -> None:
    _require(codes.rows == len(x) and codes.d_dict == dictionary.d_dict, "there is one row of codes for each row", got=codes.rows)
    _require(bool(codes.values.isfinite().all()), "activations are finite")
    inside = (codes.indices >= 0) & (codes.indices < dictionary.d_dict)
    _require(bool(inside.all()), "features lie in the dictionary")
    csr = codes.to_csr()
    row = torch.repeat_interleave(torch.arange(len(x), device=csr.indices.device), csr.indptr.diff())
    _require(len(torch.unique(row * dictionary.d_dict + csr.indices)) == len(csr.indices), "no feature occurs twice in a row")


def _check_additive(dictionary: Dictionary, codes: SparseCodes) -> None:
    silent = SparseCodes(codes.indices, torch.zeros_like(codes.values), codes.d_dict)
    for write in _writes(dictionary):
        made, nothing = dictionary.decode(codes, write=write), dictionary.decode(silent, write=write)
        table = dictionary.directions(write=write)
        _require(made.shape == (codes.rows, table.shape[1]) and bool(made.isfinite().all()), f"what is decoded at {write} is finite and fits")
        parts = torch.stack([(values[:, None] * table[indices]).sum(0) for indices, values in zip(codes.indices, codes.values, strict=True)])
        _require(_near(made - nothing, parts), f"what is decoded at {write} is the sum of value times direction, and what nothing decodes to")


def _check_directions(dictionary: Dictionary, codes: SparseCodes) -> None:
    active = codes.indices[codes.values != 0]
    feature = int(active[0]) if len(active) else 0
    for write in _writes(dictionary):
        same = _near(dictionary.direction(feature, write=write), dictionary.directions(write=write)[feature])
        _require(same, f"a direction at {write} is a row of the directions")
    table = dictionary.encoder_directions()
    _require(table.shape == (dictionary.d_dict, dictionary.d_in), "encoder directions are [d_dict, d_in]", got=tuple(table.shape))
    _require(_near(dictionary.encoder_direction(feature), table[feature]), "an encoder direction is a row of the encoder directions")


def _check_alone(dictionary: Dictionary, x: Tensor) -> None:
    together = dictionary.reconstruct(x)
    alone = torch.cat([dictionary.reconstruct(row[None]) for row in x])
    error = (together - alone).norm(dim=1) / together.norm(dim=1).clamp_min(1e-6)
    other = int((error > _CLOSE).sum())
    _require(other <= len(x) // 20, "a row's reconstruction does not depend on the rows beside it", got=f"{other} of {len(x)} rows differ")
    _require(dictionary.encode(x[:0]).rows == 0, "no rows give no codes")


def _check_refusals(dictionary: Dictionary) -> None:
    device = dictionary.encoder_directions().device
    try:
        dictionary.encode(torch.zeros(2, dictionary.d_in + 1, device=device))
    except ShapeMismatch:
        pass
    else:
        _require(False, "rows of another width raise ShapeMismatch")
    try:
        dictionary.direction(dictionary.d_dict)
    except FeatureNotFound:
        pass
    else:
        _require(False, "a feature that is not there raises FeatureNotFound")


def _check_round_trip(dictionary: Dictionary | DictionarySet, rows: Tensor | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        try:
            write_weights(dictionary, file)
            back = read_any(file)
        except DictionaryInvalid as error:
            raise SelfCheckFailed("the dictionary does not survive the native format.", got=error.what, wanted="a round trip", do=error.do) from error
        whole = isinstance(dictionary, DictionarySet)
        before = dictionary.members if isinstance(dictionary, DictionarySet) else (dictionary,)
        after = back.members if isinstance(back, DictionarySet) else (back,)
        _require(isinstance(back, DictionarySet) == whole and len(before) == len(after), "the native format gives back the same kind")
        for mine, theirs in zip(before, after, strict=True):
            x = sample_rows(mine) if rows is None else rows
            again = theirs.to(x.device)
            same = (mine.inputs, mine.writes, mine.pooling) == (again.inputs, again.writes, again.pooling)
            _require(same, "the native format keeps sites and pooling")
            for write in _writes(mine):
                equal = torch.equal(mine.reconstruct(x, write=write), again.reconstruct(x, write=write))
                _require(equal, "the native format gives back equal outputs")


def _writes(dictionary: Dictionary) -> Iterator[Site | None]:
    """Nothing said (the default), and each site by its name."""
    yield None
    yield from dictionary.writes


def _near(mine: Tensor, theirs: Tensor) -> bool:
    return mine.shape == theirs.shape and float((mine - theirs).norm()) <= _CLOSE * max(1.0, float(theirs.norm()))


def _require(holds: bool, promise: str, *, got: object = None) -> None:
    if not holds:
        do = "Correct the dictionary; `Dictionary` in microtome/dictionaries/dictionary.py says what each method means."
        raise SelfCheckFailed("the dictionary breaks a promise.", got=got, wanted=promise, do=do)
