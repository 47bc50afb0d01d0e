"""What the web tests look at: a real workspace made in seconds on a tiny model, with text that would harm a careless page."""

import json
import random
from pathlib import Path

from microtome.activations import CorpusConfig, HarvestConfig, build_corpus, harvest
from microtome.artifacts import Workspace
from microtome.dictionaries import TopK
from microtome.features import build_index
from microtome.models import Model, Site
from microtome.training import AuxK, TrainConfig, train

INDEX = "small"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
EMOJI = "Grüße 🦊🔬 naïve — 東京タワー"
D_DICT = 96


def make_workspace(folder: Path, model: Model) -> None:
    """Corpus → shards → dictionary → index, all called `INDEX`."""
    place = Workspace(folder)
    source = folder / "texts.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records()))
    corpus = build_corpus(model, CorpusConfig(source=str(source), label_key="label", context_length=64), out=place.place("corpus", INDEX))
    site = Site.parse("L1.resid_post")
    shards = harvest(model, corpus, config=HarvestConfig(sites=(site,)), out=place.place("shards", INDEX))
    config = TrainConfig(
        reads=(site,), d_dict=D_DICT, nonlinearity=TopK(k=6), tokens=8192, batch_size=256, lr=3e-3, revival=AuxK(dead_after_tokens=4096)
    )
    train(shards, corpus, config=config, out=place.place("dictionary", INDEX), model=model)
    build_index(place.place("dictionary", INDEX), shards, corpus=corpus, model=model, out=place.place("index", INDEX))


def records() -> list[dict[str, str]]:
    """Two kinds of small texts, and two that are hostile or multi-byte."""
    draw = random.Random(0)
    words = {"sea": "ship sail wave harbour storm", "kitchen": "bread salt oven butter knife"}
    texts = [
        {"title": f"{label} {i}", "label": label, "text": " ".join(draw.choices([*words[label].split(), "the", "and"], k=40)) + f" {i}."}
        for label in words
        for i in range(24)
    ]
    texts.append({"title": SCRIPT, "label": SCRIPT, "text": f"{SCRIPT} the ship {SCRIPT}\nand the bread"})
    texts.append({"title": EMOJI, "label": "sea", "text": f"{EMOJI} " * 6})
    return texts
