"""With SAEDashboard's own classes: write a batch of its own, and open what microtome writes. `python saedashboard_.py make|open FOLDER`."""

import json
import sys
from pathlib import Path

from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch, NeuronpediaDashboardFeature


def make(folder: Path) -> None:
    shown = [
        {"bin_min": -1, "bin_max": 3.5, "bin_contains": -1, "tokens": ["a", " 日本", "\n"], "values": [0.0, 3.5, 0.5], "qualifying_token_index": 1},
        {"bin_min": 0.5, "bin_max": 1.25, "bin_contains": 0.125, "tokens": [" b"], "values": [1.0], "qualifying_token_index": 0},
    ]
    feature = NeuronpediaDashboardFeature(
        feature_index=7,
        neg_str=["x"],
        neg_values=[-1.5],
        pos_str=[" the", "日"],
        pos_values=[2.0, 1.0],
        frac_nonzero=0.0125,
        freq_hist_data_bar_values=[0.5, 1.5],
        freq_hist_data_bar_heights=[3, 1],
        logits_hist_data_bar_values=[-1.0, 1.0],
        logits_hist_data_bar_heights=[10, 12],
        correlated_features_indices=[3],
        correlated_features_l1=[0.5],
        correlated_features_pearson=[0.25],
        n_prompts_total=24576,
        n_tokens_in_prompt=128,
        dataset="monology/pile-uncopyrighted",
        activations=shown,
    )
    batch = NeuronpediaDashboardBatch(model_id="tiny", layer=3, sae_set="made")
    batch.features = [feature]
    (folder / "batch-0.json").write_text(json.dumps(batch.to_dict(), ensure_ascii=False))


def open_(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    seen = 0
    for file in sorted(folder.glob("saedashboard/*/batch-*.json")):
        content = json.loads(file.read_text())
        batch = NeuronpediaDashboardBatch(**content)
        assert batch.to_dict() == content, "its own classes do not hold all that the file does"
        for feature in batch.features:
            wanted = expected[str(feature.feature_index)]
            assert ["".join(each.tokens) for each in feature.activations] == wanted["texts"]
            assert feature.pos_str == wanted["raises"]
            seen += 1
    assert seen == len(expected)
    print(json.dumps({"features read": seen}))


{"make": make, "open": open_}[sys.argv[1]](Path(sys.argv[2]))
