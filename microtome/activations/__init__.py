"""Activations: text becomes a corpus of tokens, and a model's activations over it become shards and a shuffled stream.

>>> corpus = build_corpus(model, CorpusConfig(source="wiki", max_tokens=600_000), out="ws/corpora/wiki")
>>> shards = harvest(model, corpus, config=HarvestConfig(sites=(Site("resid_post", 15),)), out="ws/shards/wiki")
>>> for batch in ActivationStream(shards, corpus, site=shards.sites[0], batch_size=4096, seed=0): ...

Begin with `CorpusConfig`: it declares which tokens count. To read another kind of text, register a `Source`.
"""

from microtome.activations import hub as hub  # they register their sources
from microtome.activations import packaged as packaged
from microtome.activations.beside import SideBySide
from microtome.activations.build import build_corpus
from microtome.activations.corpus import POSITION, ROLE_NAMES, SPECIAL, SPLITS, TEMPLATE, Corpus, CorpusConfig, Roles, Span
from microtome.activations.forward_stream import ForwardConfig, ForwardStream
from microtome.activations.harvest import HarvestConfig, capture_contexts, check_model_fits, context_batches, harvest, shard_ranges, sinks
from microtome.activations.matrix import FromMatrix, shards_from_matrix
from microtome.activations.pairs import HeldOutPairs, TurnPairs, TurnPairStream
from microtome.activations.pooled import Pooled
from microtome.activations.pooling import PoolingConfig, pool, sentence_spans, window_spans
from microtome.activations.rows import HeldOut, RoleRows, Rows, held_out, held_out_sites
from microtome.activations.shards import ShardBlock, Shards
from microtome.activations.sources import SOURCES, Document, Source, Unreadable, open_source
from microtome.activations.stream import ActivationStream

__all__ = [
    "SOURCES",
    "Document",
    "Source",
    "Unreadable",
    "open_source",
    "CorpusConfig",
    "Corpus",
    "Span",
    "Roles",
    "SPLITS",
    "ROLE_NAMES",
    "SPECIAL",
    "TEMPLATE",
    "POSITION",
    "build_corpus",
    "HarvestConfig",
    "harvest",
    "context_batches",
    "capture_contexts",
    "check_model_fits",
    "shard_ranges",
    "sinks",
    "Shards",
    "ShardBlock",
    "SideBySide",
    "FromMatrix",
    "shards_from_matrix",
    "Rows",
    "RoleRows",
    "ActivationStream",
    "HeldOut",
    "held_out",
    "held_out_sites",
    "PoolingConfig",
    "pool",
    "Pooled",
    "window_spans",
    "sentence_spans",
    "TurnPairStream",
    "TurnPairs",
    "HeldOutPairs",
    "ForwardConfig",
    "ForwardStream",
]
