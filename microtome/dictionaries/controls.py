"""Controls: dictionaries that learned nothing or something simple, shown beside every quality figure."""

from typing import TypeVar, cast, final

import torch
import torch.nn.functional as F

from microtome.dictionaries.codes import SparseCodes
from microtome.dictionaries.crosscoder import Crosscoder
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.encoder import summed
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import AbsTopK, BatchTopK, Gated, JumpReLU, Nearest, Nonlinearity, ReLU
from microtome.dictionaries.sae import SAE
from microtome.dictionaries.transcoder import Transcoder
from microtome.errors import DictionaryInvalid, NotEnoughTokens
from microtome.models import Site
from microtome.shapes import Float, Int, Tensor

_SAMPLE = 256
"""Rows that a random control is fitted to."""
_BLOCK_VALUES = 1 << 23
Learned = TypeVar("Learned", bound=Dictionary | DictionarySet)


def random_like(dictionary: Learned, *, seed: int = 0) -> Learned:
    """An untrained dictionary of the same kind, size, nonlinearity, scales and decoder biases, whose features point anywhere.

    Encoder rows are random directions. Where the nonlinearity is a threshold (ReLU, JumpReLU, BatchTopK, gated), one threshold for all features
    is set so that as many are active as in the dictionary, both on isotropic rows (for a trained BatchTopK, as many as its k). What reconstructs
    what it reads (SAE, crosscoder) has unit decoder rows tied to the encoder's at the gain that reconstructs isotropic rows best: well initialised,
    not broken. A transcoder keeps its skip, its decoder norms and the root mean square of its activations; directions that know nothing of the map
    explain less than none of it, so its FVU is above that of its bias and skip alone. A set gets one such member for each of its own.
    """
    made: Dictionary | DictionarySet
    if isinstance(dictionary, SAE | Crosscoder):
        made = _random_autoencoder(dictionary, seed=seed)
    elif isinstance(dictionary, Transcoder):
        made = _random_transcoder(dictionary, seed=seed)
    elif isinstance(dictionary, DictionarySet):
        members = tuple(random_like(member, seed=seed + place) for place, member in enumerate(dictionary.members))
        made = DictionarySet(members, kind=dictionary.kind)
    else:
        do = "Ask for the control of a dictionary that was trained."
        raise DictionaryInvalid("there is no random control of a control.", got=type(dictionary).__name__, wanted="a trained kind", do=do)
    return cast("Learned", made)  # each branch makes the kind that it was given


def _random_autoencoder(dictionary: SAE | Crosscoder, *, seed: int) -> SAE | Crosscoder:
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(dictionary.d_dict, dictionary.d_in, generator=generator), dim=1)
    z = torch.randn(_SAMPLE, dictionary.d_in, generator=generator)
    nonlinearity, biases = _calibrated(dictionary, z, rows)
    codes = nonlinearity(F.linear(z, rows, biases["b_enc"]), biases)
    bags = summed(codes, rows)
    gain = 1.0 if isinstance(nonlinearity, Nearest) else float((bags * z).sum() / bags.square().sum().clamp_min(1e-12))
    if gain <= 0:
        gain = 1.0
    b_dec = dictionary.b_dec.clone().cpu()
    if isinstance(dictionary, Crosscoder) or not dictionary.centred:
        without = rows @ b_dec  # an encoder that is not centred takes the bias away by its own
        biases |= {name: biases[name] - without for name in ("b_enc", "b_mag") if name in biases}
    nonlinearity, biases = _times(nonlinearity, biases, gain)
    made = dictionary.with_weights({"W_enc": rows * gain, "W_dec": rows, "b_dec": b_dec, **biases}, nonlinearity=nonlinearity)
    return made.to(dictionary.W_enc.device)


def _random_transcoder(dictionary: Transcoder, *, seed: int) -> Transcoder:
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(dictionary.d_dict, dictionary.d_in, generator=generator), dim=1)
    z = torch.randn(_SAMPLE, dictionary.d_in, generator=generator)
    nonlinearity, biases = _calibrated(dictionary, z, rows)
    mine = nonlinearity(F.linear(z, rows, biases["b_enc"]), biases)
    theirs = dictionary.to("cpu").encode(z / dictionary.input_scale)
    size, wanted = _root_mean_square(mine), _root_mean_square(theirs)
    gain = wanted / size if size > 0 and wanted > 0 else 1.0
    nonlinearity, biases = _times(nonlinearity, biases, gain)
    norms = dictionary.W_dec.cpu().norm(dim=-1, keepdim=True)
    W_dec = F.normalize(torch.randn(dictionary.W_dec.shape, generator=generator), dim=-1) * norms
    kept = {name: weight.cpu() for name, weight in dictionary.weights().items() if name in ("b_dec", "W_skip")}
    made = dictionary.with_weights({"W_enc": rows * gain, "W_dec": W_dec, **kept, **biases}, nonlinearity=nonlinearity)
    return made.to(dictionary.W_enc.device)


def _root_mean_square(codes: SparseCodes) -> float:
    """Over the active pairs."""
    return float((codes.values.square().sum() / max(1, codes.nnz)).sqrt())


def _calibrated(
    dictionary: SAE | Transcoder | Crosscoder, z: Float[Tensor, "n d_in"], rows: Float[Tensor, "d_dict d_in"]
) -> tuple[Nonlinearity, dict[str, Tensor]]:
    """The nonlinearity and the tensors of one number a feature with which random rows are as active as the dictionary's, on rows z."""
    d_dict, nonlinearity = dictionary.d_dict, dictionary.nonlinearity
    zeros = torch.zeros(d_dict)
    biases = {"b_enc": zeros, **{name: zeros.clone() for name in nonlinearity.tensors}}
    if isinstance(nonlinearity, Nearest):
        biases["b_enc"] = torch.full((d_dict,), -0.5)
    if not isinstance(nonlinearity, ReLU | JumpReLU | Gated | BatchTopK) or (isinstance(nonlinearity, BatchTopK) and nonlinearity.threshold is None):
        return nonlinearity, biases
    if isinstance(nonlinearity, BatchTopK):
        active = min(nonlinearity.k, d_dict) * len(z)
        return BatchTopK(k=nonlinearity.k, threshold=max(0.0, _threshold(z @ rows.T, active))), biases
    active = _own_activity(dictionary, z)
    threshold = _threshold(z @ rows.T, active)
    if isinstance(nonlinearity, JumpReLU):
        biases["threshold"] = torch.full((d_dict,), max(0.0, threshold))
    else:
        biases["b_enc"] = torch.full((d_dict,), -threshold)
    if isinstance(nonlinearity, Gated):
        biases["b_mag"] = torch.full(
            (d_dict,), max(0.0, -threshold)
        )  # where more than half are active, the magnitude must not close what the gate opens
    return nonlinearity, biases


def _own_activity(dictionary: SAE | Transcoder | Crosscoder, z: Float[Tensor, "n d_in"]) -> int:
    """Active pairs of the dictionary itself on rows that are z after its scaling and centring."""
    there = dictionary.to("cpu")
    if isinstance(there, Transcoder):
        return there.encode(z / there.input_scale).nnz
    centred = z + there.b_dec
    return there.encode(centred / (there.input_scale if isinstance(there, SAE) else there.scale)).nnz


def _threshold(pre: Float[Tensor, "n d_dict"], active: int) -> float:
    """The threshold above which `active` of the pre-activations lie: halfway to the next one."""
    ordered = pre.flatten().sort(descending=True).values
    place = min(max(active, 1), len(ordered) - 1)
    return float(ordered[place - 1 : place + 1].mean())


def _times(nonlinearity: Nonlinearity, biases: dict[str, Tensor], gain: float) -> tuple[Nonlinearity, dict[str, Tensor]]:
    """What makes all activations `gain` times as large, once the encoder rows are."""
    if isinstance(nonlinearity, BatchTopK) and nonlinearity.threshold is not None:
        nonlinearity = BatchTopK(k=nonlinearity.k, threshold=nonlinearity.threshold * gain)
    return nonlinearity, {name: bias if name == "r_mag" else bias * gain for name, bias in biases.items()}


def pca(rows: Float[Tensor, "n d_in"], *, site: Site, k: int, pooling: str = "token") -> SAE:
    """The principal components of `rows` as features: orthonormal, so the `k` largest projections of a row by size reconstruct it best.

    There are at most `d_in` of them. Projections may be negative (`AbsTopK`). Fewer than two rows raise `NotEnoughTokens`.
    """
    _enough(len(rows), 2, "PCA")
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    axes = vectors.T.flip(0)[values.flip(0) > 1e-12 * values.max()].float().contiguous()
    weights = {"W_enc": axes, "W_dec": axes.clone(), "b_enc": torch.zeros(len(axes), device=axes.device), "b_dec": mean.float()}
    return SAE(site=site, nonlinearity=AbsTopK(k=k), weights=weights, input_scale=1.0, pooling=pooling)


def kmeans(rows: Float[Tensor, "n d_in"], d_dict: int, *, site: Site, iterations: int = 20, seed: int = 0, pooling: str = "token") -> SAE:
    """k-means as a dictionary: each row has one active feature, its nearest centroid, with the value 1, and is reconstructed as that centroid.

    With m the mean and c_i the centroids less m: W_enc = W_dec = c, b_enc = -|c_i|^2 / 2, so the largest pre-activation is the nearest centroid.
    Lloyd's algorithm from `d_dict` different rows at random, until nothing moves or for `iterations` rounds; a centroid without rows moves to the
    row that is worst reconstructed. L0 is 1, which a table must say. Fewer rows than `d_dict` raise `NotEnoughTokens`.
    """
    _enough(len(rows), d_dict, "k-means")
    mean = rows.float().mean(0)
    centred = rows.float() - mean
    generator = torch.Generator().manual_seed(seed)
    centroids = centred[torch.randperm(len(centred), generator=generator)[:d_dict].to(rows.device)].clone()
    member = torch.full((len(centred),), -1, device=rows.device)
    for _ in range(iterations):
        before, (member, distance) = member, _assigned(centred, centroids)
        if torch.equal(before, member):
            break
        counts = torch.bincount(member, minlength=d_dict)
        centroids = torch.zeros_like(centroids).index_add_(0, member, centred) / counts.clamp_min(1).unsqueeze(1)
        empty = (counts == 0).nonzero().flatten()
        centroids[empty] = centred[distance.topk(len(empty)).indices]
    weights = {"W_enc": centroids, "W_dec": centroids.clone(), "b_enc": -0.5 * centroids.square().sum(1), "b_dec": mean}
    return SAE(site=site, nonlinearity=Nearest(), weights=weights, input_scale=1.0, pooling=pooling)


def _assigned(rows: Float[Tensor, "n d_in"], centroids: Float[Tensor, "d_dict d_in"]) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """(nearest centroid, squared distance to it) of every row, a block of rows after the other."""
    half = 0.5 * centroids.square().sum(1)
    scores = [(block @ centroids.T - half).max(1) for block in rows.split(max(1, _BLOCK_VALUES // len(centroids)))]
    best = torch.cat([score.values for score in scores])
    return torch.cat([score.indices for score in scores]), rows.square().sum(1) - 2 * best


def _enough(n: int, wanted: int, what: str) -> None:
    if n < wanted:
        raise NotEnoughTokens(
            f"there are too few rows for {what}.", got=n, wanted=f"at least {wanted}", do="Give more rows, or ask for fewer features."
        )


@final
class MeanDictionary(Dictionary):
    """Reconstructs every row as one vector and has one feature that is never active. Its FVU on the rows of that mean is 1.

    `d_in` and `reads` differ from the mean's where the control of a transcoder is wanted.
    """

    def __init__(
        self, mean: Float[Tensor, "d_out"], *, site: Site, reads: Site | None = None, d_in: int | None = None, pooling: str = "token"
    ) -> None:
        self.reads = site if reads is None else reads
        self.writes = (site,)
        self.mean = mean
        self.d_out = len(mean)
        self.d_in = self.d_out if d_in is None else d_in
        self.d_dict = 1
        self.pooling = pooling

    def to(self, device: torch.device | str) -> "MeanDictionary":
        """The same control with its mean on another device."""
        return MeanDictionary(self.mean.to(device), site=self.writes[0], reads=self.reads, d_in=self.d_in, pooling=self.pooling)

    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCodes:
        self.fits(x)
        empty = torch.zeros(len(x), 1, device=x.device)
        return SparseCodes(empty.long(), empty, 1)

    def decode(self, codes: SparseCodes, *, write: Site | None = None) -> Float[Tensor, "n d_out"]:
        self.written(write)
        return self.mean.float().expand(codes.rows, self.d_out).clone()

    def directions(self, *, write: Site | None = None) -> Float[Tensor, "d_dict d_out"]:
        self.written(write)
        return torch.zeros(1, self.d_out, device=self.mean.device)

    def encoder_directions(self) -> Float[Tensor, "d_dict d_in"]:
        return torch.zeros(1, self.d_in, device=self.mean.device)

    def weights(self) -> dict[str, Tensor]:
        """The mean."""
        return {"mean": self.mean}
