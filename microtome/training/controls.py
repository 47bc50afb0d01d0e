"""The controls that stand beside a dictionary: which ones make sense for its kind, how they are made, and why the others are left out.

| control | beside |
|---|---|
| `random` | everything that was trained |
| `frozen decoder` | what a sweep trained one for: it needs a training of its own |
| `k-means`, `pca` | what reconstructs what it reads: SAEs of one site, and sets of them |
| `neurons` | what stands for an MLP: transcoders from `mlp_in` to `mlp_out` of a layer, and sets of them |
| `mean` | everything |

PCA and neurons keep as many a row as the dictionary has active features.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from microtome.dictionaries import SAE, Crosscoder, Dictionary, DictionarySet, MeanDictionary, Transcoder, kmeans, neurons, pca
from microtome.errors import ModelUnsupported
from microtome.models import Model, Site
from microtome.shapes import Tensor
from microtome.training.export import Made
from microtome.training.measures import members_of

CONTROLS = ("random", "frozen decoder", "k-means", "pca", "neurons", "mean")
"""By name, in the order of a table's columns."""
FIT_ROWS = 8192
"""Rows of the train split that k-means and PCA are fitted to."""
CENTROIDS = 512
"""At most as many, of all sites together, however many features the dictionary has: k-means takes time in proportion."""
ROUNDS = 6
_FROZEN = "needs a training of its own; a sweep has it with --sweep decoder=trained,frozen"

RowsOf = Callable[[tuple[Site, ...]], dict[Site, Tensor]]
"""Rows of the train split by site, as many as the mean is taken of."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The controls of one dictionary that need no training and are not made from it."""

    made: dict[str, Callable[[], Made]] = field(default_factory=lambda: {})
    """By what tells a control apart from others: its name, its sites and its size."""
    names: dict[str, str] = field(default_factory=lambda: {})
    """The key of `made` by name."""
    notes: dict[str, str] = field(default_factory=lambda: {})
    """Size and what it was fitted to, by name."""
    left_out: dict[str, str] = field(default_factory=lambda: {"frozen decoder": _FROZEN})
    """Why, by name."""

    def add(self, name: str, key: str, *, note: str, make: Callable[[], Made]) -> None:
        self.names[name], self.notes[name], self.made[key] = key, note, make


def controls_of(dictionary: Made, *, l0: float, rows: RowsOf, model: Model | None) -> Chosen:
    """Which controls stand beside a dictionary that has `l0` features active a row. Nothing is fitted before it is asked for."""
    chosen, members = Chosen(), members_of(dictionary)
    k = max(1, round(l0))
    if all(isinstance(member, SAE) for member in members):
        _of_autoencoders(chosen, members, k=k, rows=rows)
        chosen.left_out["neurons"] = "stand for an MLP: beside transcoders from mlp_in to mlp_out"
        return chosen
    why = "of several sites side by side are not made" if isinstance(members[0], Crosscoder) else "reconstruct what they read, not another site"
    chosen.left_out.update({"k-means": f"its centroids {why}", "pca": f"its components {why}"})
    layers = _mlp_layers(members)
    if layers is None:
        chosen.left_out["neurons"] = "stand for an MLP: beside what goes from mlp_in to mlp_out of its layers"
    elif model is None:
        chosen.left_out["neurons"] = "are the model's, which was not given"
    else:
        _of_mlps(chosen, layers, k=k, model=model, together=isinstance(dictionary, DictionarySet))
    return chosen


def _of_autoencoders(chosen: Chosen, members: tuple[Dictionary, ...], *, k: int, rows: RowsOf) -> None:
    sites, pooling = tuple(member.reads for member in members), members[0].pooling
    fitted = {site: each[:: max(1, len(each) // FIT_ROWS)][:FIT_ROWS] for site, each in rows(sites).items()}
    least = min(map(len, fitted.values()))
    named = f"{', '.join(map(str, sites))} {pooling}"
    if least > 1:

        def components() -> Made:
            return _joined([pca(fitted[site].float(), site=site, k=min(k, fitted[site].shape[1]), pooling=pooling) for site in sites])

        chosen.add("pca", f"pca {named} {k}", note=f"k {k}, fitted to {least:,} rows", make=components)
    else:
        chosen.left_out["pca"] = "there are too few rows to fit it to"
    widest = min(member.d_dict for member in members)
    centroids = min(max(64, CENTROIDS // len(members)), widest, least // 4)
    if centroids > 1:

        def means() -> Made:
            return _joined([kmeans(fitted[site].float(), centroids, site=site, iterations=ROUNDS, pooling=pooling) for site in sites])

        note = f"{centroids:,} centroids, one a row, fitted to {least:,} rows"
        chosen.add("k-means", f"k-means {named} {centroids}", note=note, make=means)
    else:
        chosen.left_out["k-means"] = "there are too few rows, or features, for two centroids"


def _of_mlps(chosen: Chosen, layers: list[int], *, k: int, model: Model, together: bool) -> None:
    def own() -> list[Dictionary]:
        return [neurons(model, layer, k=k) for layer in layers]

    try:
        made = own()
    except ModelUnsupported as error:
        chosen.left_out["neurons"] = error.what.rstrip(".")
        return
    note = f"the {k} that write most"
    key = f"neurons {layers} {k} {together}"
    chosen.add("neurons", key, note=note, make=lambda: DictionarySet(tuple(made)) if together else made[0])


def _mlp_layers(members: tuple[Dictionary, ...]) -> list[int] | None:
    """The layers whose MLPs the members stand for; None where they stand for something else."""
    layers = [member.reads.layer for member in members if member.reads.kind == "mlp_in" and member.reads.layer is not None]
    written = {site for member in members for site in member.writes}
    whole = len(layers) == len(members) and written == {Site("mlp_out", layer) for layer in layers}
    return layers if whole and all(isinstance(member, Transcoder) for member in members) else None


def mean_of(dictionary: Made, rows: RowsOf) -> Made:
    """The control that reconstructs every site written as its mean over the train split."""
    members = members_of(dictionary)
    writes, pooling = tuple(dict.fromkeys(site for member in members for site in member.writes)), members[0].pooling
    found = rows(writes)
    return _joined([MeanDictionary(found[site].float().mean(0), site=site, pooling=pooling) for site in writes])


def _joined(made: "list[SAE] | list[MeanDictionary]") -> Made:
    return made[0] if len(made) == 1 else DictionarySet(tuple(made))
