"""The native format: an artifact of kind `dictionary` whose `weights.safetensors` holds the tensors and, in its header, what they mean.

Header key `dictionary`, JSON: `{"format": 2, "kind": …, **fields}`, with the fields of the records below; tensors are fp32 under the names of the
kind's `weights()`. In a set the tensors of a member are called `L3.mlp_in/W_enc`, after the site that it reads, so one member can be read alone.

| kind | fields |
|---|---|
| `sae` | `site`, `nonlinearity`, `input_scale`, `pooling`, `centred`, `d_dict`, `d_in` |
| `transcoder` | `reads`, `writes`, `nonlinearity`, `input_scale`, `output_scale`, `pooling`, `d_dict`, `d_in`, `d_out` |
| `crosscoder` | `reads`, `widths`, `nonlinearity`, `input_scales`, `pooling`, `d_dict` |
| `mean` | `reads`, `writes`, `pooling`, `d_in`, `d_out` |
| `neurons` | `reads`, `writes`, `activation`, `k`, `d_dict`, `d_in`, `d_out` |
| `set` | `set` (`layers` or `cross-layer`), `members`: the headers of the members, without `format` |

Format 1 (a TopK SAE that reads tokens, without `format`, `pooling` and `centred`) is still read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from microtome.artifacts import Artifact, Draft, place_atomic
from microtome.config import from_dict, to_dict
from microtome.dictionaries.controls import MeanDictionary
from microtome.dictionaries.crosscoder import Crosscoder
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.encoder import checked_weights
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.neurons import Neurons
from microtome.dictionaries.nonlinearity import nonlinearity_from_json, nonlinearity_to_json
from microtome.dictionaries.sae import SAE
from microtome.dictionaries.transcoder import Transcoder
from microtome.errors import ConfigError, DictionaryInvalid, NotRegistered, SiteNotFound, nearest
from microtome.models import Site
from microtome.shapes import Tensor

WEIGHTS = "weights.safetensors"
FORMAT = 2
_DO = "Check the file, or train the dictionary again."


@dataclass(frozen=True, kw_only=True)
class SaeHeader:
    """What the tensors of an `sae` mean."""

    site: Site
    nonlinearity: dict[str, Any]
    input_scale: float
    pooling: str = "token"
    centred: bool = True
    d_dict: int
    d_in: int


@dataclass(frozen=True, kw_only=True)
class TranscoderHeader:
    """What the tensors of a `transcoder` mean."""

    reads: Site
    writes: tuple[Site, ...]
    nonlinearity: dict[str, Any]
    input_scale: float
    output_scale: float
    pooling: str
    d_dict: int
    d_in: int
    d_out: int


@dataclass(frozen=True, kw_only=True)
class CrosscoderHeader:
    """What the tensors of a `crosscoder` mean."""

    reads: tuple[Site, ...]
    widths: tuple[int, ...]
    nonlinearity: dict[str, Any]
    input_scales: tuple[float, ...]
    pooling: str
    d_dict: int


@dataclass(frozen=True, kw_only=True)
class MeanHeader:
    """What the tensor of a `mean` means."""

    reads: Site
    writes: Site
    pooling: str
    d_in: int
    d_out: int


@dataclass(frozen=True, kw_only=True)
class NeuronsHeader:
    """What the tensors of `neurons` mean."""

    reads: Site
    writes: Site
    activation: str
    k: int
    d_dict: int
    d_in: int
    d_out: int


@dataclass(frozen=True, kw_only=True)
class SetHeader:
    """What a `set` holds."""

    set: str
    members: tuple[dict[str, Any], ...]


Header = SaeHeader | TranscoderHeader | CrosscoderHeader | MeanHeader | NeuronsHeader
Tensors = Mapping[str, Tensor]
_HEADERS: dict[str, type[Header]] = {
    "sae": SaeHeader,
    "transcoder": TranscoderHeader,
    "crosscoder": CrosscoderHeader,
    "mean": MeanHeader,
    "neurons": NeuronsHeader,
}


def save(dictionary: Dictionary | DictionarySet, draft: Draft) -> None:
    """Write the weights into an artifact that is being made."""
    write_weights(dictionary, draft.path / WEIGHTS)


def write_weights(dictionary: Dictionary | DictionarySet, file: Path) -> None:
    """Write one `weights.safetensors`; the same dictionary gives the same bytes. A foreign kind raises `DictionaryInvalid`."""
    if isinstance(dictionary, DictionarySet):
        members = [_header_of(member) for member in dictionary.members]
        header: dict[str, Any] = {"format": FORMAT, "kind": "set", "set": dictionary.kind, "members": members}
        tensors = {f"{member.reads}/{name}": tensor for member in dictionary.members for name, tensor in _weights_of(member).items()}
    else:
        header, tensors = {"format": FORMAT, **_header_of(dictionary)}, _weights_of(dictionary)
    with place_atomic(file) as temporary:
        plain = _apart({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        save_file(plain, temporary, metadata={"dictionary": json.dumps(header, sort_keys=True)})


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each in memory of its own: a file has no place for a tensor that is another one too, as the two matrices of a tied dictionary may be."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return tensors


def load_dictionary(path: str | Path, *, member: Site | None = None) -> Dictionary:
    """Open the dictionary artifact at `path`; of a set, the member that reads the site `member`.

    Raises `ArtifactMissing`, `ArtifactForeign` or `ArtifactDamaged` for the folder, `DictionaryInvalid` for what the file holds, and `SiteNotFound`
    for a set without such a member or of which none was named.
    """
    return read_weights(Artifact.open(path, "dictionary").file(WEIGHTS), member=member)


def load_any(path: str | Path) -> Dictionary | DictionarySet:
    """Open the dictionary artifact at `path`, whether it holds one dictionary or a set. Raises as `load_dictionary` does."""
    return read_any(Artifact.open(path, "dictionary").file(WEIGHTS))


def read_weights(file: Path, *, member: Site | None = None) -> Dictionary:
    """Read one dictionary from a `weights.safetensors`; only the named member's tensors are read from a set's."""
    return cast("Dictionary", _read(file, wanted=member, whole=False))


def read_any(file: Path) -> Dictionary | DictionarySet:
    """Read a `weights.safetensors`, whatever it holds."""
    return _read(file, wanted=None, whole=True)


def _read(file: Path, *, wanted: Site | None, whole: bool) -> Dictionary | DictionarySet:
    try:
        with safe_open(file, framework="pt") as opened:
            header = _parsed(file, dict(opened.metadata() or {}))
            names = list(opened.keys())
            if header["kind"] != "set":
                return _made(file, header, {name: opened.get_tensor(name) for name in names}, wanted=wanted)
            described = _strict(file, SetHeader, header)
            kinds = {_site_of(file, each): each for each in described.members}
            _no_strangers(file, names, kinds)
            chosen = kinds if whole else {_named(file, kinds, wanted): kinds[_named(file, kinds, wanted)]}
            members: list[Dictionary] = []
            for site, each in chosen.items():
                own = {name.partition("/")[2]: opened.get_tensor(name) for name in names if name.partition("/")[0] == site}
                members.append(_made(file, each, own, wanted=None))
    except (SafetensorError, OSError) as error:
        raise _invalid(file, str(error), "a safetensors file") from error
    if not whole:
        return members[0]
    if described.set not in ("layers", "cross-layer"):
        raise _invalid(file, f'a set of kind "{described.set}"', "layers or cross-layer")
    return DictionarySet(tuple(members), kind=described.set)


def _made(file: Path, header: dict[str, Any], tensors: Tensors, *, wanted: Site | None) -> Dictionary:
    """The dictionary that a header and its tensors stand for."""
    kind = header.get("kind")
    if not isinstance(kind, str) or kind not in _HEADERS:
        raise _invalid(file, f"the kind {kind!r}", ", ".join([*_HEADERS, "set"]))
    described = _strict(file, _HEADERS[kind], header)
    try:
        made = _READERS[type(described)](described, tensors)
    except (ConfigError, NotRegistered) as error:
        raise _invalid(file, f"{error.what} {error.do}", "a nonlinearity of this release") from error
    for name in ("d_dict", "d_in", "d_out"):
        said = getattr(described, name, None)
        if said is not None and said != getattr(made, name):
            raise _invalid(file, f"{name} {getattr(made, name)}", f"{name} {said}, as its header says")
    if wanted is not None and wanted != made.reads:
        raise SiteNotFound(f"{file} does not read {wanted}.", got=wanted, wanted=made.reads, do="Ask for the site that it reads, or for none.")
    return made


def _sae(header: SaeHeader, tensors: Tensors) -> SAE:
    return SAE(
        site=header.site,
        nonlinearity=nonlinearity_from_json(header.nonlinearity),
        weights=tensors,
        input_scale=header.input_scale,
        pooling=header.pooling,
        centred=header.centred,
    )


def _transcoder(header: TranscoderHeader, tensors: Tensors) -> Transcoder:
    return Transcoder(
        reads=header.reads,
        writes=header.writes,
        nonlinearity=nonlinearity_from_json(header.nonlinearity),
        weights=tensors,
        input_scale=header.input_scale,
        output_scale=header.output_scale,
        pooling=header.pooling,
    )


def _crosscoder(header: CrosscoderHeader, tensors: Tensors) -> Crosscoder:
    return Crosscoder(
        reads=header.reads,
        widths=header.widths,
        nonlinearity=nonlinearity_from_json(header.nonlinearity),
        weights=tensors,
        input_scales=header.input_scales,
        pooling=header.pooling,
    )


def _mean(header: MeanHeader, tensors: Tensors) -> MeanDictionary:
    held = checked_weights(tensors, {"mean": (header.d_out,)}, kind="a mean")
    return MeanDictionary(held["mean"], site=header.writes, reads=header.reads, d_in=header.d_in, pooling=header.pooling)


def _neurons(header: NeuronsHeader, tensors: Tensors) -> Neurons:
    return Neurons(reads=header.reads, writes=header.writes, activation=header.activation, k=header.k, weights=tensors)


_READERS: dict[type[Header], Callable[[Any, Tensors], Dictionary]] = {
    SaeHeader: _sae,
    TranscoderHeader: _transcoder,
    CrosscoderHeader: _crosscoder,
    MeanHeader: _mean,
    NeuronsHeader: _neurons,
}


def _described(dictionary: Dictionary) -> Header:
    """The header of a dictionary."""
    sizes = {"d_dict": dictionary.d_dict, "d_in": dictionary.d_in, "d_out": dictionary.d_out}
    if isinstance(dictionary, MeanDictionary):
        return MeanHeader(
            reads=dictionary.reads, writes=dictionary.writes[0], pooling=dictionary.pooling, d_in=dictionary.d_in, d_out=dictionary.d_out
        )
    if isinstance(dictionary, Neurons):
        return NeuronsHeader(reads=dictionary.reads, writes=dictionary.writes[0], activation=dictionary.activation, k=dictionary.k, **sizes)
    if not isinstance(dictionary, SAE | Transcoder | Crosscoder):
        do = "Keep it in a format of its own."
        raise DictionaryInvalid("the native format does not know this kind.", got=type(dictionary).__name__, wanted=", ".join(_HEADERS), do=do)
    shared: dict[str, Any] = {
        "nonlinearity": nonlinearity_to_json(dictionary.nonlinearity),
        "pooling": dictionary.pooling,
        "d_dict": dictionary.d_dict,
    }
    if isinstance(dictionary, SAE):
        return SaeHeader(site=dictionary.reads, input_scale=dictionary.input_scale, centred=dictionary.centred, d_in=dictionary.d_in, **shared)
    if isinstance(dictionary, Crosscoder):
        return CrosscoderHeader(reads=dictionary.inputs, widths=dictionary.widths, input_scales=dictionary.input_scales, **shared)
    return TranscoderHeader(
        reads=dictionary.reads,
        writes=dictionary.writes,
        input_scale=dictionary.input_scale,
        output_scale=dictionary.output_scale,
        d_in=dictionary.d_in,
        d_out=dictionary.d_out,
        **shared,
    )


def _header_of(dictionary: Dictionary) -> dict[str, Any]:
    described = _described(dictionary)
    kind = next(name for name, each in _HEADERS.items() if type(described) is each)
    return {"kind": kind, **to_dict(described)}


def _weights_of(dictionary: Dictionary) -> dict[str, Tensor]:
    assert isinstance(dictionary, SAE | Transcoder | Crosscoder | MeanDictionary | Neurons)
    return dictionary.weights()


def _parsed(file: Path, stored: dict[str, str]) -> dict[str, Any]:
    """The header as a mapping, without its format version."""
    try:
        header = json.loads(stored.get("dictionary", ""))
    except ValueError as error:
        raise _invalid(file, "no header that says what the tensors mean", "the key `dictionary` in its header") from error
    if not isinstance(header, dict) or "kind" not in header:
        raise _invalid(file, f"the header {header}", "a header with a kind")
    version = header.pop("format", 1)
    if version not in (1, FORMAT):
        raise _invalid(file, f"format {version}", f"format {FORMAT}, or 1 of the first release")
    if version == 1 and header["kind"] != "sae":
        raise _invalid(file, f"the kind {header['kind']!r} of format 1", "sae")
    return header


def _strict(file: Path, record: type[Any], header: Mapping[str, Any]) -> Any:
    """The header as a record; an unknown, missing or ill-typed field is named."""
    fields = {name: value for name, value in header.items() if name != "kind"}
    try:
        return from_dict(record, fields, where=f"the header of {header.get('kind')}")
    except (ConfigError, SiteNotFound) as error:
        raise _invalid(file, error.what, f"{error.wanted}. {error.do}") from error


def _site_of(file: Path, header: Mapping[str, Any]) -> str:
    """The site that a member reads, as it is printed: the prefix of its tensors."""
    reads = header.get("site", header.get("reads"))
    first = reads[0] if isinstance(reads, list) and reads else reads
    if not isinstance(first, str):
        raise _invalid(file, f"a member that reads {reads!r}", "a member that reads a site")
    return first


def _named(file: Path, members: Mapping[str, Any], wanted: Site | None) -> str:
    if wanted is None or str(wanted) not in members:
        what = f"{file} is a set of {len(members)} dictionaries." if wanted is None else f"no dictionary of {file} reads {wanted}."
        do = "Name the site of the one that is wanted, or load all with load_any." if wanted is None else nearest(str(wanted), members)
        raise SiteNotFound(what, got=wanted, wanted=", ".join(members), do=do)
    return str(wanted)


def _no_strangers(file: Path, names: list[str], members: Mapping[str, Any]) -> None:
    strangers = [name for name in names if name.partition("/")[0] not in members]
    if strangers:
        raise _invalid(file, f"the tensor {strangers[0]}", f"tensors of {', '.join(members)}")


def _invalid(file: Path, got: str, wanted: str) -> DictionaryInvalid:
    return DictionaryInvalid(f"{file} is not a microtome dictionary.", got=got, wanted=wanted, do=_DO)
