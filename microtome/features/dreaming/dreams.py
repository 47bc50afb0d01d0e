"""A dream from its beginning to its record: what the corpus has, the evolution, and a folder that an interrupted run resumes from."""

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microtome.artifacts import MANIFEST, Draft, existing
from microtome.config import from_dict, to_dict
from microtome.errors import ArtifactMissing, QueryInvalid
from microtome.features.dreaming.config import DreamConfig
from microtome.features.dreaming.evolution import Population, advance, begin
from microtome.features.dreaming.front import Point, best_within, front, hypervolume
from microtome.features.dreaming.judge import Judge, Judged, Prompt
from microtome.features.dreaming.records import Dream, Dreamed
from microtome.features.dreaming.targets import Target
from microtome.features.index import FeatureIndex
from microtome.features.probe import lead
from microtome.features.store import Store
from microtome.models import Model
from microtome.progress import Progress, Throttled

_DREAM, _STATE = "dream.json", "state.json"


def dream(
    index: FeatureIndex,
    model: Model,
    *,
    target: Target,
    config: DreamConfig = DreamConfig(),  # noqa: B008  frozen
    out: Path | None = None,
    vocabulary: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Dream:
    """Find prompts that drive a target hard and are fluent: the Pareto front of activation against cross-entropy (`evolution.py`).

    With `out` the dream is an artifact: a run that was killed resumes there and ends as it would have, `read_dream` gives what it has so far, and
    a finished one is read. `vocabulary` are the ids that a prompt may hold, all that text can contain unless given. Raises `ShapeMismatch`
    (another model), `QueryInvalid` (a vocabulary without tokens), `ModelTapped` (with `out`), `ArtifactConflict`.
    """
    store = index.store
    store.check_model(model)
    if out is not None:
        model.check_untapped("a dream that is kept")
    allowed = model.vocabulary_mask().nonzero().squeeze(1) if vocabulary is None else torch.tensor(sorted(set(vocabulary)), dtype=torch.long)
    if not len(allowed):
        raise QueryInvalid("a dream needs tokens.", got="an empty vocabulary", wanted="at least one token id", do="Leave vocabulary out.")
    plan = {"dream": to_dict(config), "target": target.name, "key": target.key, "vocabulary": None if vocabulary is None else allowed.tolist()}
    inputs = {"index": index.id, "model": model.fingerprint}
    if out is not None and existing(out, "dream", config=plan, inputs=inputs) is not None:
        return read_dream(out)
    with nullcontext() if out is None else Draft.open(out, "dream", config=plan, inputs=inputs) as draft:
        run = _Run(
            index, target, config=config, judge=Judge(model=model, target=target, lead=lead(store), usable=allowed, at_last=config.at == "last")
        )
        made = run.finish(draft, Throttled(progress))
        if draft is not None:
            draft.write(_DREAM, json.dumps(to_dict(made)))
            (draft.path / _STATE).unlink(missing_ok=True)
            best = made.front[0].share if made.front else 0.0
            draft.finish(summary={"name": made.name, "feature": made.feature, "index": made.index, "best": best, "iterations": made.iterations})
        return made


def read_dream(path: Path) -> Dream:
    """A dream as its folder has it: finished, or what an interrupted run found so far. Raises `ArtifactMissing`."""
    for name in (_DREAM, _STATE):
        if (path / name).is_file():
            content = json.loads((path / name).read_bytes())
            return from_dict(Dream, content if name == _DREAM else content["dream"])
    got = "a folder without a dream" if (path / MANIFEST).exists() or path.is_dir() else "no such folder"
    raise ArtifactMissing(f"there is no dream at {path}.", got=got, wanted=f"{_DREAM} or {_STATE}", do="Make one with `microtome dream`.")


class _Run:
    """One dream in the making."""

    def __init__(self, index: FeatureIndex, target: Target, *, config: DreamConfig, judge: Judge) -> None:
        self._index, self._target, self._config, self._judge = index, target, config, judge
        self._worst = math.log(judge.model.n_vocab)
        self._hypervolumes: list[float] = []

    def finish(self, draft: Draft | None, tell: Throttled) -> Dream:
        """From the beginning, or from where an interrupted run stood, to the end."""
        texts = corpus_texts(self._index.store, self._target, length=self._config.length, limit=self._config.corpus_texts)
        judged = self._judge.judge(texts) if texts else []
        corpus = [Point(tokens=text, share=one.share, cross_entropy=one.cross_entropy, iteration=0) for text, one in zip(texts, judged, strict=True)]
        at = self._resumed(draft) if draft is not None and draft.has(_STATE) else None
        if at is None:
            at = begin(self._judge, self._config, corpus=list(zip(texts, judged, strict=True)))
        planned = self._config.iterations
        while at.iteration < planned:
            advance(self._judge, self._config, at)
            self._hypervolumes.append(hypervolume(at.front, worst=self._worst))
            best = at.front[0].share if at.front else 0.0
            tell("dream", at.iteration, planned, unit="iterations", note=f"best {best:.0%} of the store's maximum")
            if draft is not None:
                state = {"parents": at.parents, "judged": [tuple(one) for one in at.judged], "front": [to_dict(point) for point in at.front]}
                draft.write(_STATE, json.dumps({**state, "dream": to_dict(self._record(at, corpus))}))
        return self._record(at, corpus)

    def _resumed(self, draft: Draft) -> Population:
        state: dict[str, Any] = json.loads((draft.path / _STATE).read_bytes())
        done = from_dict(Dream, state["dream"])
        self._hypervolumes = list(done.hypervolumes)
        self._judge.tokens_run, self._judge.prompts = done.tokens_run, done.prompts
        return Population(
            iteration=done.iterations,
            parents=[tuple(parent) for parent in state["parents"]],
            judged=[Judged(*one) for one in state["judged"]],
            front=tuple(from_dict(Point, point) for point in state["front"]),
        )

    def _record(self, at: Population, corpus: list[Point]) -> Dream:
        config, target, judge = self._config, self._target, self._judge
        return Dream(
            index=self._index.name,
            name=target.name,
            feature=target.feature,
            label=target.label,
            store_max=judge.scale,
            length=config.length,
            iterations=at.iteration,
            planned=config.iterations,
            tokens_run=judge.tokens_run,
            prompts=judge.prompts,
            hypervolumes=tuple(self._hypervolumes),
            corpus_hypervolume=hypervolume(corpus, worst=self._worst),
            front=tuple(self._dreamed(point, corpus=corpus) for point in at.front),
            corpus_front=tuple(self._dreamed(point, corpus=None) for point in front(corpus)),
            corpus_texts=len(corpus),
            seed=config.seed,
        )

    def _dreamed(self, point: Point, *, corpus: list[Point] | None) -> Dreamed:
        return Dreamed(
            tokens=point.tokens,
            pieces=tuple(self._index.store.vocabulary.pieces(point.tokens)),
            activation=point.share * self._judge.scale,
            share=point.share,
            cross_entropy=point.cross_entropy,
            corpus_share=None if corpus is None else best_within(corpus, cross_entropy=point.cross_entropy),
            iteration=point.iteration,
        )


def corpus_texts(store: Store, target: Target, *, length: int, limit: int) -> list[Prompt]:
    """The texts of `length` tokens that end on the target's strongest firings, within their documents, the same text once; strongest first."""
    found: dict[Prompt, None] = {}
    order = np.argsort(-target.firings.values, kind="stable")
    for position in target.firings.positions[order].tolist():
        start = position - length + 1
        if start >= 0 and int(store.corpus.doc_of(np.array([start]))[0]) == int(store.corpus.doc_of(np.array([position]))[0]):
            found[tuple(map(int, store.corpus.tokens[start : position + 1]))] = None
        if len(found) == limit:
            break
    return list(found)
