"""A small workspace with traced graphs: transcoders of a tiny model, their feature index, and a prompt that would harm a careless page."""

from pathlib import Path

import torch

from microtome.activations import CorpusConfig, build_corpus
from microtome.artifacts import Draft, Workspace
from microtome.circuits import TraceConfig, trace
from microtome.dictionaries import DictionarySet, ReLU, Transcoder, save
from microtome.features import IndexConfig, build_index
from microtome.models import Model, Site
from tests.web.small import SCRIPT, records

GRAPH, HOSTILE, CLOSED = "ship", "hostile", "closed"
PROMPTS = {GRAPH: "the ship and the sail", HOSTILE: f"{SCRIPT} 東京", CLOSED: "the bread"}
D_DICT = 24


def make_graphs(folder: Path, model: Model) -> None:
    """Corpus → transcoders, one a layer → index → graphs. That of `CLOSED` has no features whose inputs were traced."""
    place = Workspace(folder)
    source = folder / "texts.jsonl"
    source.write_text("".join(f'{{"text": "{one["text"]}"}}\n' for one in records()[:24:2]))
    corpus = build_corpus(model, CorpusConfig(source=str(source), context_length=48), out=place.place("corpus", "texts"))
    dictionary = place.place("dictionary", "layers")
    with Draft.open(dictionary, "dictionary", config={}, inputs={"corpus": corpus.id}) as draft:
        save(transcoders(model), draft)
        draft.finish()
    build_index(dictionary, None, corpus=corpus, model=model, out=place.place("index", "layers"), config=IndexConfig())
    for name, prompt in PROMPTS.items():
        config = TraceConfig(max_rows=0 if name == CLOSED else 2000)
        trace(model, dictionary, prompt, config=config).save(place.place("graph", name))


def transcoders(model: Model) -> DictionarySet:
    """Random ones that read what the MLPs read and write what they write; few of their features fire."""
    draw = torch.Generator().manual_seed(0)
    members: list[Transcoder] = []
    for layer in range(model.n_layers):
        weights = {
            "W_enc": torch.randn(D_DICT, model.d_model, generator=draw) / model.d_model**0.5,
            "W_dec": torch.randn(D_DICT, model.d_model, generator=draw) / 4,
            "b_enc": -torch.rand(D_DICT, generator=draw),
            "b_dec": torch.randn(model.d_model, generator=draw) / 10,
        }
        site = Site("mlp_in", layer)
        members.append(Transcoder(reads=site, writes=(Site("mlp_out", layer),), nonlinearity=ReLU(), weights=weights))
    return DictionarySet(tuple(members), kind="layers")
