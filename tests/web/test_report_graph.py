"""The report's section on a graph says what its trial measured, and text of prompts cannot become markup."""

import re
from pathlib import Path

import torch

from microtome.artifacts import Workspace
from microtome.circuits import TraceConfig, TrialConfig, keep_tried, trace, trial
from microtome.dictionaries import SAE, DictionarySet, ReLU
from microtome.models import Site, tiny
from microtome.web.report_graph import graph_section, tried_graph


def test_the_section_holds_the_trial_s_figures(tmp_path: Path) -> None:
    model = tiny("llama", n_layers=4)
    draw = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(24, model.d_model, generator=draw) / 5 for name in ("W_enc", "W_dec")}
    weights |= {"b_enc": torch.zeros(24), "b_dec": torch.zeros(model.d_model)}
    sae = SAE(site=Site("resid_post", 1), nonlinearity=ReLU(), weights=weights, input_scale=1.0)
    workspace = Workspace(tmp_path)
    graph = trace(model, sae, "a <b>bold</b> prompt", config=TraceConfig(max_rows=40))
    graph.save(workspace.place("graph", "wiki"))
    assert tried_graph(workspace, "wiki", dictionary=graph.dictionaries[0]) is None  # nothing was tried yet
    made = trial(model, DictionarySet((sae,)), graph=graph, config=TrialConfig(strong=8, random=8))
    keep_tried(workspace, "wiki", trial=made)
    assert tried_graph(workspace, "wiki", dictionary="another") is None
    shown = tried_graph(workspace, "wiki", dictionary=graph.dictionaries[0])
    assert shown is not None
    html = graph_section(shown)
    assert "<b>" not in html
    assert "&lt;b&gt;bold" in html
    for group in ("strong", "random"):
        found = made.result(f"ablated, {group}")
        assert found is not None
        assert f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]" in html
    assert len(re.findall("<circle", html)) == len(made.nodes)
    best = max(made.nodes, key=lambda node: abs(node.total))
    assert f"{best.node}</td>" in html
    assert f"{-best.total:+.3f}</td>" in html
