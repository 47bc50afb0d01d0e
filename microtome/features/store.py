"""What an index has on disk, opened once: postings, rows, vocabulary, corpus, catalogue."""

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from safetensors.torch import load_file

from microtome.activations import ROLE_NAMES, SPLITS, Corpus
from microtome.artifacts import MANIFEST, Artifact, Workspace, read_manifest
from microtome.config import from_dict
from microtome.dictionaries import load_any
from microtome.errors import FeatureNotFound, ShapeMismatch
from microtome.features.arrays import Array
from microtome.features.catalogue import Catalogue
from microtome.features.config import IndexConfig
from microtome.features.context import Context, context_of
from microtome.features.losses import Losses
from microtome.features.members import Members, Numbering
from microtome.features.norms import FILE as NORMS
from microtome.features.norms import Read, reads_of, stream_of
from microtome.features.points import KIND as MAP
from microtome.features.points import place_of, points_of
from microtome.features.postings import INVERTED, Postings, forward_name
from microtome.features.records import Label
from microtome.features.rows import FILE, FeatureRows
from microtome.features.text import Vocabulary
from microtome.features.wiring import Wiring
from microtome.models import Model, Site

FACTS, VOCABULARY = "index.json", "vocabulary.safetensors"


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The labels of all features, and what people keep of them, at one revision of the catalogue."""

    revision: int
    texts: Sequence[str]
    """The person's label if there is one, else the rule's."""
    by_user: frozenset[int]
    verdicts: Mapping[int, str]
    """Of the features that have one."""
    lists: Mapping[int, tuple[str, ...]]
    """Names of the lists of each feature that is on one."""


@final
class Store:
    """The parts of a finished index. Neither the model nor the dictionary is opened until a text is to be encoded."""

    def __init__(self, artifact: Artifact, workspace: Workspace) -> None:
        self._artifact = artifact
        self.workspace = workspace
        self.config: IndexConfig = from_dict(IndexConfig, artifact.manifest.config)
        self.facts: dict[str, Any] = json.loads(artifact.file(FACTS).read_bytes())
        self.corpus = Corpus.open(workspace.by_id("corpus", artifact.manifest.inputs["corpus"]))
        self.vocabulary = Vocabulary.read(artifact.file(VOCABULARY))
        self.rows = FeatureRows(artifact.file(FILE))
        ranges = [(int(start), int(end)) for start, end in self.facts["ranges"]]
        forward = [artifact.file(forward_name(shard)) for shard in range(len(ranges))]
        self.postings = Postings(forward, artifact.file(INVERTED), ranges=ranges)
        self.catalogue = Catalogue(workspace.catalogue)
        rules = zip(self.rows.texts["rule"], self.rows.numbers["f1"].tolist(), strict=True)
        labels = [Label(feature=feature, text=text, origin="rule", f1=f1) for feature, (text, f1) in enumerate(rules)]
        self.catalogue.add_rules(self.id, labels, name=self.name)
        self._lock = threading.Lock()
        self._names: Labelled | None = None
        self._losses: Losses | None = None
        self._clusters: tuple[int, Array] | None = None

    @property
    def id(self) -> str:
        return self._artifact.id

    @property
    def name(self) -> str:
        return self._artifact.name

    @property
    def path(self) -> Path:
        return self._artifact.path

    @property
    def inputs(self) -> dict[str, str]:
        """Ids of the corpus, the shards and the dictionary, and the model's fingerprint."""
        return dict(self._artifact.manifest.inputs)

    @property
    def n_features(self) -> int:
        return len(self.rows)

    @cached_property
    def members(self) -> Members:
        """The dictionaries that were indexed, opened when a text is to be encoded or links are asked for."""
        return Members(load_any(self.workspace.by_id("dictionary", self._artifact.manifest.inputs["dictionary"])))

    @cached_property
    def numbering(self) -> Numbering:
        """Which dictionary each feature is of."""
        members: list[dict[str, Any]] = self.facts.get("members") or [{"reads": self.facts["reads"], "features": self.n_features}]
        return Numbering([Site.parse(each["reads"]) for each in members], [each["features"] for each in members])

    @cached_property
    def wiring(self) -> Wiring:
        """The virtual weights between the features."""
        facts = self.facts.get("norms")
        if facts is None:
            return Wiring(self.members, [Read(stream=stream_of(site), gain=None, centres=False, scaled=False) for site in self.numbering.sites])
        named = self._artifact.manifest.files
        return Wiring(self.members, reads_of(facts, load_file(self._artifact.file(NORMS)) if NORMS in named else {}))

    @cached_property
    def sites(self) -> list[str]:
        """The site that each feature reads."""
        return np.repeat([str(site) for site in self.numbering.sites], np.diff(self.numbering.starts)).tolist()

    def check_model(self, model: Model) -> None:
        """Raise `ShapeMismatch` for another model than the index is of."""
        if model.fingerprint != self.inputs["model"]:
            do = f"Load the model that the index was made with: {self.facts['model']}, in the same dtype."
            raise ShapeMismatch("the index is of another model.", got=f"{model.ref} ({model.fingerprint})", wanted=self.inputs["model"], do=do)

    @cached_property
    def titles(self) -> list[str]:
        """Title of every document, `document N` where its source gave none."""
        return [title or f"document {doc}" for doc, title in enumerate(self.corpus.docs["title"].to_pylist())]

    @cached_property
    def corpus_labels(self) -> list[str]:
        """Label of every document, "" for none."""
        return [label or "" for label in self.corpus.docs["label"].to_pylist()]

    @cached_property
    def turn_docs(self) -> Array:
        """The document of each turn, ascending."""
        return self.corpus.turns["doc"].to_numpy()

    @cached_property
    def part_names(self) -> dict[str, tuple[str, ...]]:
        """Names of roles, corpus labels and splits in the order in which the rows count them."""
        labels = tuple(sorted(set(self.corpus_labels)))
        return {"role": ROLE_NAMES, "corpus_label": labels, "split": SPLITS}

    @cached_property
    def token_counts(self) -> Array:
        """Kept occurrences of each token id, int64."""
        tokens = np.asarray(self.corpus.tokens)
        return np.bincount(tokens[self.postings.keep()], minlength=int(tokens.max(initial=0)) + 1)

    @cached_property
    def offset_tokens(self) -> Array:
        """Kept tokens in each bin of the offset histogram, int64."""
        kept = np.flatnonzero(self.postings.keep())
        offsets = kept - self.corpus.doc_start[self.corpus.doc_of(kept)]
        edges = self.facts["offset_edges"]
        return np.bincount(np.searchsorted(edges, offsets, side="right") - 1, minlength=len(edges) - 1)

    def places_of(self, token: int) -> Array:
        """Positions of the kept occurrences of a token id, ascending."""
        order, starts = self._places
        return order[starts[token] : starts[token + 1]].astype(np.int64)

    @cached_property
    def _places(self) -> tuple[Array, Array]:
        kept = np.flatnonzero(self.postings.keep()).astype(np.uint32 if self.corpus.n_tokens < 1 << 32 else np.int64)
        order = kept[np.argsort(np.asarray(self.corpus.tokens)[kept], kind="stable")]
        return order, np.concatenate([[0], np.cumsum(self.token_counts)])

    @cached_property
    def context(self) -> Context:
        """Document, split, role and label of every token, for examples that were not picked when the index was built."""
        return context_of(self.corpus, keep=self.postings.keep())

    def losses(self) -> Losses | None:
        """The losses of the corpus under the model, looked for in the workspace until they are there."""
        if self._losses is None:
            for name in self.workspace.names("losses"):
                inputs = read_manifest(self.workspace.place("losses", name)).inputs
                if (inputs["corpus"], inputs["model"]) == (self.inputs["corpus"], self.inputs["model"]):
                    self._losses = Losses.open(self.workspace.place("losses", name))
        return self._losses

    def clusters(self) -> Array | None:
        """The cluster of every feature on the index' map, −1 for none, int64 [features]; None as long as there is no map in the workspace."""
        place = place_of(self.workspace, index_id=self.id, name=self.name)
        if place is None:
            return None
        stamp = (place / MANIFEST).stat().st_mtime_ns
        if self._clusters is None or self._clusters[0] != stamp:
            points = points_of(Artifact.open(place, MAP))
            found = np.full(self.n_features, -1, np.int64)
            found[points.features] = points.cluster
            self._clusters = (stamp, found)
        return self._clusters[1]

    @cached_property
    def mean_losses(self) -> tuple[float, float]:
        """Mean loss of the kept tokens and of those behind them, NaN without losses."""
        losses = self.losses()
        keep = self.postings.keep()
        return (math.nan, math.nan) if losses is None else (float(np.nanmean(losses.here[keep])), float(np.nanmean(losses.after[keep])))

    def labels(self) -> Sequence[str]:
        """The label of every feature: the person's if there is one, else the rule's."""
        return self.labelled().texts

    def label(self, feature: int) -> Label:
        """The label of one feature and where it comes from."""
        labels = self.labelled()
        own = self.known(feature) in labels.by_user
        f1 = None if own else float(self.rows.numbers["f1"][feature])
        return Label(feature=feature, text=labels.texts[feature], origin="user" if own else "rule", f1=f1)

    def known(self, feature: int) -> int:
        """The feature's number, or `FeatureNotFound`."""
        if not 0 <= feature < self.n_features:
            what = f"the index {self.name} has no feature {feature}."
            raise FeatureNotFound(what, got=feature, wanted=f"0 … {self.n_features - 1}", do="Give a number in that range.")
        return int(feature)

    def labelled(self) -> Labelled:
        """All labels as the catalogue has them now."""
        revision = self.catalogue.revision
        with self._lock:
            if self._names is None or self._names.revision != revision:
                changed = {label.feature: label.text for label in self.catalogue.user_labels(self.id)}
                lists: dict[int, tuple[str, ...]] = {}
                for name, (_, features) in self.catalogue.lists(self.id).items():
                    lists.update({feature: (*lists.get(feature, ()), name) for feature in features})
                self._names = Labelled(
                    revision=revision,
                    texts=self.rows.label_texts(changed),
                    by_user=frozenset(changed),
                    verdicts=self.catalogue.verdicts(self.id),
                    lists=lists,
                )
            return self._names
