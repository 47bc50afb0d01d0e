"""A small real index: a tiny random model, a labelled corpus with multi-byte text and repeats, a random dictionary."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from microtome.activations import Corpus, CorpusConfig, HarvestConfig, Shards, build_corpus, harvest
from microtome.artifacts import Draft, Workspace
from microtome.dictionaries import SAE, TopK, save
from microtome.features import FeatureIndex, IndexConfig, build_index
from microtome.models import Model, Site, tiny

D_DICT = 64
SITE = Site("resid_post", 1)
CONFIG = IndexConfig(top_examples=6, strata=3, stratum_examples=4, window_before=6, window_after=3, neighbours=5, logits=7)
_TOPICS = {
    "Sea": "the ship was on the sea 12 and the crew of 1912 was in Čapek's café that hello world",
    "Food": "hello bread and 日本 soup, the baker's <b>oven</b> was hot in 2004! stir for 10 minutes",
    "Law": "the judge of the world is in the court; that ruling (of 1850) was for the user 🦜 and others",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """Everything an index is made from."""

    workspace: Workspace
    model: Model
    corpus: Corpus
    shards: Shards
    dictionary: Path

    def build(self, name: str, config: IndexConfig = CONFIG) -> FeatureIndex:
        """Build (or open) an index of that name."""
        out = self.workspace.place("index", name)
        return build_index(self.dictionary, self.shards, corpus=self.corpus, model=self.model, out=out, config=config)


def random_sae(d_in: int, *, seed: int = 0, k: int = 4) -> SAE:
    """A random dictionary; its last two features never fire."""
    draw = torch.Generator().manual_seed(seed)
    b_enc = torch.zeros(D_DICT)
    b_enc[-2:] = -1e4
    weights = {
        "W_enc": torch.randn(D_DICT, d_in, generator=draw),
        "W_dec": torch.randn(D_DICT, d_in, generator=draw),
        "b_enc": b_enc,
        "b_dec": torch.zeros(d_in),
    }
    return SAE(site=SITE, nonlinearity=TopK(k=k), weights=weights, input_scale=2.0)


def write_corpus_file(path: Path) -> None:
    """60 short labelled documents, some the same but for their ends."""
    draw = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for i in range(60):
            topic = list(_TOPICS)[i % 3]
            words = _TOPICS[topic].split(" ")
            picked = words if i % 10 == 0 else [words[int(at)] for at in draw.integers(0, len(words), size=draw.integers(5, 25))]
            file.write(json.dumps({"title": f"{topic} {i}", "text": " ".join([*picked, str(i)]), "label": topic}) + "\n")


def make(folder: Path) -> Made:
    workspace = Workspace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus_file(folder / "texts.jsonl")
    model = tiny("llama")
    config = CorpusConfig(source=str(folder / "texts.jsonl"), label_key="label", context_length=64, split=(0.6, 0.2, 0.2))
    corpus = build_corpus(model, config, out=workspace.place("corpus", "texts"))
    shards = harvest(model, corpus, config=HarvestConfig(sites=(SITE,), shard_tokens=700), out=workspace.place("shards", "texts"))
    place = workspace.place("dictionary", "random")
    with Draft.open(place, "dictionary", config={}, inputs={"shards": shards.id}) as draft:
        save(random_sae(model.width(SITE)), draft)
        draft.finish()
    return Made(workspace=workspace, model=model, corpus=corpus, shards=shards, dictionary=place)
