"""What graphs of the demo model are worth: of 50 prompts of twelve kinds, how much is explained, and do predictions hold in the model?

For each prompt: `trace` with the transcoders of `demo-plt` (30 layers × 2,048 features; made first, in 20 minutes, where bench/recipe.py has not),
the graph's scores, and a trial: the 10 strongest features and 10 random active ones are set to 0 and doubled, one at a time, with attention held;
then the swaps of `missing_edges`. Every prompt is a line of JSON in `--keep FILE`; those found there are not done again, so it can be stopped.

    python bench/graphs.py [--prompts 50] [--dictionary DIR/dictionaries/demo-plt] [--keep FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rows import row, say

from microtome.circuits import TraceConfig, trace
from microtome.circuits.missing import SwapConfig, missing_edges
from microtome.circuits.predict import TrialConfig, trial
from microtome.circuits.scores import scores
from microtome.dictionaries import DictionarySet, load_any
from microtome.models import load
from microtome.stats import bootstrap_rank_correlation, rank_correlation

PROMPTS = {
    "opposites": ("The opposite of hot is", "The opposite of large is", "The opposite of always is"),
    "facts": (
        "The capital of France is the city of",
        "Barack Obama was the President of the United",
        "Water freezes at zero degrees",
        "The chemical symbol for gold is",
        "The Eiffel Tower is located in the city of",
        "The largest planet in the solar system is",
        "William Shakespeare wrote the play Romeo and",
        "The first man to walk on the moon was Neil",
    ),
    "two steps": (
        "The capital of the country where the Eiffel Tower stands is",
        "He was born in Germany, so his native language is",
        "The currency of the country whose capital is Tokyo is the",
    ),
    "series": (
        "Monday, Tuesday, Wednesday,",
        "One, two, three, four,",
        "January, February, March,",
        "A, B, C, D,",
        "10, 20, 30, 40,",
        "1, 2, 4, 8, 16,",
    ),
    "arithmetic": ("Two plus two equals", "3 + 4 =", "If I have five apples and eat two, I am left with", "12 - 5 ="),
    "induction": (
        "The dog chased the cat. The cat ran away from the",
        "zorp blik fenn. zorp blik",
        "Mrs. Dalrymple met Mr. Okafor. Later that day Mrs.",
        "red 7 green 4 blue 9 red 7 green",
    ),
    "agreement": ("The keys to the cabinet", "The boys who the teacher likes", "The author of the books", "Neither of the two sisters"),
    "names": (
        "When Mary and John went to the store, John gave a drink to",
        "Anna is taller than Peter. The shorter of the two is",
        "Sarah lost her keys, so Tom lent Sarah",
    ),
    "translation": ("English: house. French: maison. English: cat. French:", "The Spanish word for water is", "In German, thank you is"),
    "code": ("def add(a, b):\n    return a +", "for i in range(10):\n    print(", "import numpy as", "if x > 0:\n    return True\nelse:\n    return"),
    "negation": ("It is not cold outside; it is very", "Penguins are birds, but they cannot", "She did not say yes. She said"),
    "text": (
        "Roses are red, violets are",
        "Once upon a time, there was a",
        "She opened the door and walked into the",
        "The band released their first studio album in",
        "The doctor picked up her stethoscope and listened to the patient's",
    ),
}
KINDS = {prompt: kind for kind, prompts in PROMPTS.items() for prompt in prompts}
TRIED = TrialConfig(strong=10, random=10)
CLEAR = 0.5
"""A predicted change of the logit beyond which a sign is worth counting."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dictionary", type=Path, default=None, help="the folder of a transcoder set of the demo model")
    parser.add_argument("--keep", type=Path, default=Path(__file__).parent / ".work" / "graphs.jsonl")
    parser.add_argument("--prompts", type=int, default=len(KINDS))
    asked = parser.parse_args()
    asked.keep.parent.mkdir(parents=True, exist_ok=True)
    known = {each["prompt"]: each for each in map(json.loads, asked.keep.read_text().splitlines())} if asked.keep.exists() else {}
    wanted = list(KINDS)[: asked.prompts]
    missing = [prompt for prompt in wanted if prompt not in known]
    if missing:
        model, dictionaries = load("demo"), load_any(asked.dictionary or demo_plt())
        assert isinstance(dictionaries, DictionarySet)
        for prompt in missing:
            known[prompt] = one(model, dictionaries, prompt)
            with asked.keep.open("a") as file:
                file.write(json.dumps(known[prompt], ensure_ascii=False) + "\n")
    report([known[prompt] for prompt in wanted])


def demo_plt() -> Path:
    """The set that bench/recipe.py leaves; made here where it has not been run."""
    workspace = Path(__file__).parent / ".work" / "plt"
    subprocess.run([sys.executable, "-m", "microtome", "train", "--recipe", "demo-plt", "--workspace", str(workspace)], check=True, stdout=sys.stderr)
    return workspace / "dictionaries" / "demo-plt"


def one(model: Any, dictionaries: DictionarySet, prompt: str) -> dict[str, Any]:
    """Everything about one prompt."""
    began = time.monotonic()
    graph = trace(model, dictionaries, prompt, config=TraceConfig(max_rows=1500, update_rows=500))
    traced = time.monotonic() - began
    found, tried = scores(graph), trial(model, dictionaries, graph=graph, config=TRIED)
    swapped = missing_edges(model, graph, config=SwapConfig(swaps=3, ends=len(graph.tokens) < 4))
    record = {
        "prompt": prompt,
        "kind": KINDS[prompt],
        "target": tried.target,
        "probability": round(float(graph.target_weight[0]), 4),
        "features": graph.n_features,
        "balance": graph.balance(),
        "replacement": found.replacement,
        "completeness": found.completeness,
        "error_share": found.error_share,
        "untraced": found.untraced,
        "trial": tried.to_json(),
        "missing": swapped.to_json(),
        "seconds": round(traced, 2),
        "seconds_of_trial": round(time.monotonic() - began - traced, 2),
    }
    say(f"{prompt!r}: {tried.target} p {record['probability']}, {summary(record)}")
    return record


def summary(record: dict[str, Any]) -> str:
    """One line about a prompt."""
    values = {result["name"]: result["value"] for result in (*record["trial"]["results"], *record["missing"]["results"])}
    names = ("ablated, strong", "ablated, random", "doubled, strong", "doubled, random", "ranks", "ratio")
    shown = ", ".join(f"{name} {values[name]:.2f}" for name in names if name in values)
    return f"replacement {record['replacement']:.2f}, completeness {record['completeness']:.2f}, {shown}, {record['seconds']:.0f} s"


def report(records: list[dict[str, Any]]) -> None:
    """Means over prompts, and correlations over the nodes of all prompts, each prompt's changes divided by their largest."""
    say(f"{len(records)} prompts")
    for name in ("replacement", "completeness", "error_share", "untraced", "features", "seconds"):
        values = [record[name] for record in records]
        say(f"{name}: mean {np.mean(values):.3f}, median {np.median(values):.3f}, from {min(values):.3f} to {max(values):.3f}")
    say(f"balance: worst {max(record['balance'] for record in records):.1e}")
    for group in ("strong", "random"):
        for change, sign in (("ablated", -1), ("doubled", 1)):
            rows_of = [result for record in records for result in record["trial"]["results"] if result["name"] == f"{change}, {group}"]
            each = np.array([result["value"] for result in rows_of])
            beats = sum(result["value"] > result["baselines"]["shuffled, high"] for result in rows_of)
            direct = np.array([result["baselines"]["direct"] for result in rows_of if "direct" in result["baselines"]])
            predicted, measured = pooled(records, group, change=change, sign=sign)
            whole, interval = rank_correlation(predicted, measured), bootstrap_rank_correlation(predicted, measured)
            say(f"{change}, {group}: of a prompt mean {each.mean():.3f} (direct effect alone {direct.mean():.3f})")
            say(f"  {beats} of {len(each)} prompts beyond 97.5 % of shuffled predictions")
            say(f"  all {len(predicted)} nodes together {whole:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
            if change == "ablated":
                limit = float(np.mean([result["baselines"]["shuffled, high"] for result in rows_of]))
                name = f"graphs of {len(records)} prompts: predicted against measured ablation, {group} nodes, Spearman ÷ 97.5 % of shuffled"
                row(name, ratio=float(each.mean()) / limit, bar=1.0, ours=round(float(each.mean()), 4), peer=round(limit, 4), unit="rho")
    for change, sign in (("ablated", -1), ("doubled", 1)):
        pairs = [(sign * node["total"], node[change]) for record in records for node in record["trial"]["nodes"] if abs(node["total"]) > CLEAR]
        shares = np.array([measured / predicted for predicted, measured in pairs])
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75])
        say(f"{change}, {len(pairs)} nodes with a predicted change beyond {CLEAR}: {(shares > 0).mean():.1%} have its sign")
        say(f"  measured ÷ predicted: median {middle:.2f}, quartiles {low:.2f} and {high:.2f}")
    for name in ("ranks", "ratio"):
        values = [result["value"] for record in records for result in record["missing"]["results"] if result["name"] == name]
        if values:
            say(f"missing edges, {name}: mean {np.mean(values):.3f}, median {np.median(values):.3f}, from {min(values):.3f} to {max(values):.3f}")
    say("kind, prompts, probability, replacement, completeness, ablated strong, doubled strong")
    for kind in dict.fromkeys(record["kind"] for record in records):
        here = [record for record in records if record["kind"] == kind]
        means = [np.mean([record[name] for record in here]) for name in ("probability", "replacement", "completeness")]
        means += [np.mean([correlation(record, change) for record in here]) for change in ("ablated", "doubled")]
        say(f"  {kind}, {len(here)}, {', '.join(f'{value:.2f}' for value in means)}")
    say("worst by ablated, strong:")
    for record in sorted(records, key=correlation)[:6]:
        say(f"  {record['prompt']!r} → {record['target']}: {summary(record)}")


def correlation(record: dict[str, Any], change: str = "ablated") -> float:
    """The rank correlation of the strong nodes; 0 where there is none."""
    return next((result["value"] for result in record["trial"]["results"] if result["name"] == f"{change}, strong"), 0.0)


def pooled(records: list[dict[str, Any]], group: str, *, change: str, sign: int) -> tuple[list[float], list[float]]:
    """Predicted and measured changes of all prompts, in units of the prompt's largest measured change."""
    predicted: list[float] = []
    measured: list[float] = []
    for record in records:
        nodes = [node for node in record["trial"]["nodes"] if node["group"] == group]
        unit = max((abs(node[change]) for node in nodes), default=0.0) or 1.0
        predicted += [sign * node["total"] / unit for node in nodes]
        measured += [node[change] / unit for node in nodes]
    return predicted, measured


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
