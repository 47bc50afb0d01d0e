"""The feature index, opened: every question about features is a method here."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

from microtome.artifacts import Artifact, Workspace
from microtome.features import (
    alike,
    bytoken,
    cards,
    documents,
    effects,
    matches,
    probe,
    prompts,
    surroundings,
    suspects,
    tables,
)
from microtome.features.effect_records import Effects
from microtome.features.effects import EffectsConfig
from microtome.features.feature_card import Card
from microtome.features.feature_loss import FeatureLoss, feature_loss
from microtome.features.found import PromptSearch, Separation, TextTests, TokenSearch
from microtome.features.html import overview_html
from microtome.features.kept import Keeping
from microtome.features.linking import Linking
from microtome.features.links import Alikes, Matches, Suspect
from microtome.features.members import Place
from microtome.features.records import DocumentList, DocumentView, Label, Overview, RuleLabel, Search, Table, TextTest, TokenView, Window
from microtome.features.separate import Compared, separate
from microtome.features.store import Store
from microtome.features.surroundings import Surroundings
from microtome.models import Model, Site
from microtome.progress import Progress


@final
class FeatureIndex(Keeping, Linking):
    """A finished index. The model is needed for nothing but `search` and `test`; the dictionary for those and for links.

    >>> index = FeatureIndex.open(workspace.find("index"), workspace)
    >>> index.table(filter='density > 0.001 and label ~ "france"', sort="f1", descending=True)
    >>> index.card(1234)

    Safe to be asked from several threads.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def open(cls, path: str | Path, workspace: Workspace | str | Path | None = None) -> "FeatureIndex":
        """Open the index artifact at `path`; its corpus is found by id in `workspace` (by default the one that `path` lies in).

        Raises `ArtifactMissing`, `ArtifactForeign` or `ArtifactDamaged`.
        """
        artifact = Artifact.open(path, "index")
        if not isinstance(workspace, Workspace):
            workspace = Workspace(workspace if workspace is not None else Path(path).resolve().parent.parent)
        return cls(Store(artifact, workspace))

    @property
    def id(self) -> str:
        return self.store.id

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def path(self) -> Path:
        return self.store.path

    @property
    def n_features(self) -> int:
        return self.store.n_features

    # labels and notes

    def labels(self) -> Sequence[str]:
        """The label of every feature: the person's if there is one, else the rule's."""
        return self.store.labels()

    def label(self, feature: int) -> Label:
        """The label of one feature and where it comes from."""
        return self.store.label(feature)

    # the whole

    def select(self, *, filter: str = "", search: str = "") -> tuple[int, ...]:
        """All features that the table would list, ascending; with a search the best match first. Raises `QueryInvalid`."""
        return tuple(tables.passing(self.store, filter=filter, search=search).tolist())

    def overview(self) -> Overview:
        """The index at a glance."""
        return tables.overview(self.store)

    def table(
        self,
        *,
        sort: str = "feature",
        descending: bool = False,
        filter: str = "",
        search: str = "",
        offset: int = 0,
        limit: int = 100,
    ) -> Table:
        """A page of the feature table.

        `filter` is a text of the small language of `query.py`; `search` finds labels with these words (prefixes count). With a search and the
        default sort the best matches come first. Equal values are ordered by feature. Raises `QueryInvalid` naming the nearest column.
        """
        page = tables.Page(sort=sort, descending=descending, filter=filter, search=search, offset=offset, limit=limit)
        return tables.table(self.store, page)

    # where a feature comes from, and what it is linked with

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that its dictionaries read, in the order of a forward."""
        return self.store.numbering.sites

    def feature(self, site: Site | str, number: int) -> int:
        """The id of feature `number` of the dictionary that reads `site`. Raises `SiteNotFound`, `FeatureNotFound`."""
        return self.store.numbering.feature(Site.parse(site) if isinstance(site, str) else site, number)

    def place(self, feature: int) -> Place:
        """The site that a feature's dictionary reads, and its number there. Raises `FeatureNotFound`."""
        return self.store.numbering.place(self.store.known(feature))

    # features that are like it, and what it does to the output

    def alike(self, feature: int, *, limit: int = 12) -> Alikes:
        """The nearest features of the same dictionary, by encoder and by decoder, each with both cosines."""
        return alike.alike(self.store, self.store.known(feature), limit=limit)

    def suspects(self, feature: int, *, limit: int = 20) -> tuple[Suspect, ...]:
        """Features that it may be split with, that may absorb it, or that it may absorb: `suspects.py` has the conditions."""
        return suspects.suspects(self.store, self.store.known(feature), limit=limit)

    def across(self, feature: int, *, limit: int = 12) -> Matches:
        """The same feature in the other dictionaries of this index, layers for instance: by correlation and by decoder cosine."""
        return matches.matches(self.store, self.store.known(feature), self.store, limit=limit)

    def match(self, feature: int, other: "FeatureIndex", *, limit: int = 12) -> Matches:
        """The same feature in another index of the same model; correlations need one corpus. Raises `ShapeMismatch` for another model."""
        return matches.matches(self.store, self.store.known(feature), other.store, limit=limit)

    def surroundings(self, feature: int, *, limit: int = 8) -> Surroundings:
        """The n-grams around its firings (`limit` of each length), and its density by offset in the document."""
        return surroundings.surroundings(self.store, self.store.known(feature), limit=limit)

    def loss(self, feature: int) -> FeatureLoss | None:
        """How well the model predicts where it fires; None until `measure_losses` was run on the corpus in this workspace."""
        known, losses = self.store.known(feature), self.store.losses()
        return None if losses is None else feature_loss(self.store, losses, known)

    def effects(self, feature: int, *, model: Model | None = None, config: EffectsConfig = EffectsConfig()) -> Effects | None:  # noqa: B008  frozen
        """What ablating and doubling it does to the next token on its own examples, as the catalogue has it; measured now where a `model` is given.

        None where nothing is stored and there is no model. Raises `ShapeMismatch` (another model), `QueryInvalid` (a crosscoder) and
        `WorkspaceReadOnly`.
        """
        known = self.store.known(feature)
        if model is not None:
            effects.measure(self.store, model, [known], config=config, progress=None)
        return effects.stored(self.store, known, config=config)

    def with_effects(self, config: EffectsConfig = EffectsConfig()) -> frozenset[int]:  # noqa: B008  frozen
        """The features whose effects are stored."""
        return effects.measured(self.store, config=config)

    def measure_effects(
        self,
        model: Model,
        features: Sequence[int] | int,
        *,
        config: EffectsConfig = EffectsConfig(),  # noqa: B008  frozen
        progress: Progress | None = None,
    ) -> int:
        """Measure and store the effects of some features, or of so many drawn among those that fire; what is stored is not done again.

        Returns how many were new. Raises as `effects`.
        """
        drawn = (
            effects.sample(self.store, n=features, seed=config.seed) if isinstance(features, int) else [self.store.known(each) for each in features]
        )
        return effects.measure(self.store, model, drawn, config=config, progress=progress)

    # one feature, one document, one text

    def card(self, feature: int) -> Card:
        """Everything known about one feature. Raises `FeatureNotFound`."""
        return cards.card(self.store, self.store.known(feature))

    def rule(self, feature: int) -> RuleLabel:
        """The rule label of a feature with its scores."""
        return cards.rule_of(self.store.rows.row(self.store.known(feature)))

    def examples(
        self,
        feature: int,
        *,
        stratum: int | None = None,
        split: str | None = None,
        role: str | None = None,
        corpus_label: str | None = None,
        limit: int = 32,
    ) -> tuple[Window, ...]:
        """Examples from a feature's postings: the strongest, or a draw from one slice (0 is the weakest), of one split, role or corpus label.

        One window a document, near-duplicates collapsed. Raises `FeatureNotFound`, and `QueryInvalid` for an unknown slice, split, role or label.
        """
        known = self.store.known(feature)
        return cards.examples(self.store, known, stratum=stratum, split=split, role=role, corpus_label=corpus_label, limit=limit)

    def documents(self, *, search: str = "", offset: int = 0, limit: int = 100) -> DocumentList:
        """A page of the documents whose title or label holds `search`."""
        return documents.listing(self.store, search=search, offset=offset, limit=limit)

    def document(
        self, doc: int, *, rank: str = "specific", offset: int = 0, length: int = 4096, limit: int = 60, feature: int | None = None
    ) -> DocumentView:
        """`length` tokens of a document from `offset`, with the `limit` features that rank highest there.

        Ranks: `max` (largest activation), `share` (that over the feature's maximum), `count` (tokens it fires on), and `specific`:
        share × log(1 / share of the store's documents it fires in), which puts what is strong here and rare elsewhere first.
        `feature` is listed (last) if it fires at all, however low it ranks.
        Raises `DocumentNotFound`, `QueryInvalid`.
        """
        pinned = None if feature is None else self.store.known(feature)
        return documents.view(self.store, doc, rank=rank, offset=offset, length=length, limit=limit, feature=pinned)

    def token(self, doc: int, *, offset: int) -> TokenView:
        """One token of a document and every feature that fires on it. Raises `DocumentNotFound`, `QueryInvalid`."""
        return documents.token(self.store, doc, offset=offset)

    def search(self, model: Model, text: str, *, rank: str = "specific", limit: int = 50) -> Search:
        """Run the model on a text and rank the features that fire (ranks as in `document`).

        Raises `QueryInvalid` (empty text, unknown rank), `ShapeMismatch` (another model than the index is of), `TokenOutOfRange` (too long).
        """
        return probe.search(self.store, model, text=text, rank=rank, limit=limit)

    def test(self, model: Model, feature: int, *, text: str) -> TextTest:
        """One feature on any text: activation of each token, as a share of the store's maximum and as a percentile. Raises as `search`."""
        return probe.test(self.store, model, feature=self.store.known(feature), text=text)

    def test_all(self, model: Model, feature: int, *, texts: Sequence[str]) -> TextTests:
        """One feature on many prompts; `above_store` counts those that reach above 100 % of the store's maximum. Raises as `search`."""
        return probe.test_all(self.store, model, feature=self.store.known(feature), texts=texts)

    def by_prompts(
        self,
        model: Model,
        positive: Sequence[str],
        *,
        negative: Sequence[str] = (),
        rank: str = "specific",
        misses: int = 0,
        allow: float = 0.0,
        limit: int = 50,
    ) -> PromptSearch:
        """Features that fire on every positive prompt and on no negative one, best first; the formulas are in `prompts.py`.

        `misses` positive prompts may be silent; `allow` is the strongest answer to a negative prompt that is forgiven, as a share of the
        feature's maximum. `rank`: `specific` or `share`. Raises as `search`.
        """
        query = prompts.PromptQuery(positive=tuple(positive), negative=tuple(negative), rank=rank, misses=misses, allow=allow, limit=limit)
        return prompts.by_prompts(self.store, model, query)

    def by_token(self, text: str, *, spellings: bool = False, limit: int = 50) -> TokenSearch:
        """Features ranked by how exactly they fire on one token, over the store; no model is needed.

        `text` is the token with its space (`" the"`); with `spellings` every token that is it in another case or spacing is meant too.
        Raises `QueryInvalid` naming tokens that hold the text when none is it.
        """
        return bytoken.by_token(self.store, text, spellings=spellings, limit=limit)

    def separate(
        self,
        model: Model,
        positive: Sequence[str],
        *,
        negative: Sequence[str],
        pool: str = "max",
        shuffles: int = 999,
        seed: int = 0,
        limit: int = 50,
    ) -> Separation:
        """Features ranked by how well they tell two small sets of texts apart: AUC with a 95 % interval, and p against shuffled labels.

        `pool`: a text's value is the `max` or the `mean` of its tokens. p is corrected for all the features that were tried; the formulas are
        in `separate.py`. Raises as `search`.
        """
        how = Compared(pool=pool, shuffles=shuffles, seed=seed, limit=limit)
        return separate(self.store, model, positive=positive, negative=negative, how=how)

    def _repr_html_(self) -> str:
        return overview_html(self.overview())
