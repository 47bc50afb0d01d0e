"""What edits and captures cost, and what a server gains by answering together.

1. Tokens a second of `generate` with eight edits (additions, ablations, caps and a band of them at eight sites) over transformers' own `generate`,
   greedy, with the model's own caches, at batch 1 and 16. Equality: with the edits at dose 0 the tokens are transformers'.
2. `capture` of every residual site over a forward of the same layers in transformers, without logits. Equality: the last of them, to the bit.
3. 32 clients with edits of their own over HTTP, together and one after the other. Equality: every answer, token by token.
4. Ten thousand requests at once to a server that takes one row: all are answered or turned away, and it lives.

The demo model, two threads. The contenders take turns; each figure is the median of the rounds.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads sleep

import httpx
import torch
from rows import row, say

from microtome.models import Model, Site, load, tiny
from microtome.progress import Progress
from microtome.steering import Ablate, Add, Batch, Cap, Edit, EditSet, Sampling, generate, of_norm, raw
from microtome.steering.serving import Limits
from microtome.web import create_app

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.web.serving import serving

THREADS = 2
QUICK = "--quick" in sys.argv
NEW_TOKENS = 16 if QUICK else 48
ROUNDS = 1 if QUICK else 5
CLIENTS = 32
CLIENT_TOKENS = 16 if QUICK else 32
PROMPT = "The ship left the harbour at dawn, and the captain looked back at the town where"


def main() -> None:
    torch.set_num_threads(THREADS)
    model = load("demo", selfcheck=False)
    wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")] or ["generate", "capture", "clients", "flood"]
    if "generate" in wanted:
        for size in (1, 16):
            generating(model, size=size)
    if "capture" in wanted:
        capturing(model)
    if "clients" in wanted:
        together(model)
    if "flood" in wanted:
        flood()


def eight(model: Model) -> list[Edit]:
    """Eight edits at eight sites."""
    from microtome.directions import Direction

    def along(layer: int) -> Direction:
        vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(layer))
        return Direction(name=f"random {layer}", site=Site("resid_post", layer), vector=vector)

    adds: list[Edit] = [Add(component=along(layer), strength=of_norm(0.02)) for layer in (8, 10, 12, 14)]
    return [
        *adds,
        *(Ablate(component=along(layer)) for layer in (16, 18)),
        *(Cap(component=along(n), strength=raw(4), side="ceil") for n in (20, 22)),
    ]


@torch.no_grad()
def generating(model: Model, *, size: int) -> None:
    edits, hf = EditSet(edits=tuple(eight(model))), plain_of(model)
    tokens = Batch.of(model, [PROMPT] * size).tokens
    sampling = Sampling(max_new_tokens=NEW_TOKENS, ends_at_eos=False)

    def ours(dose: float) -> list[tuple[int, ...]]:
        return [made.tokens for made in generate(model, [PROMPT] * size, edits=edits.at(dose), sampling=sampling)]

    def peer() -> torch.Tensor:
        mask = torch.ones_like(tokens)
        made = hf.generate(tokens, attention_mask=mask, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
        return made[:, tokens.shape[1] :]

    assert [list(each) for each in ours(0)] == peer().tolist(), "unedited tokens are not those of transformers"
    took, plain_took = alternate(lambda: ours(1), peer, label=f"batch {size}")
    row(
        f"generating with 8 edits ÷ transformers, batch {size}",
        ratio=plain_took / took,
        bar=0.95,
        ours=round(size * NEW_TOKENS / took, 2),
        peer=round(size * NEW_TOKENS / plain_took, 2),
        unit="tokens/s",
        equal="at dose 0 the same tokens",
    )


@torch.no_grad()
def capturing(model: Model) -> None:
    sites = [site for site in model.sites() if site.kind in ("resid_pre", "resid_mid", "resid_post")]
    tokens = torch.randint(1000, 40_000, (4, 64 if QUICK else 128), generator=torch.Generator().manual_seed(0))
    body = plain_of(model).model
    captured = model.capture(tokens, [Site("final_norm")])[Site("final_norm")]
    assert torch.equal(captured, body(input_ids=tokens, use_cache=False).last_hidden_state), "captured values are not those of transformers"
    took, plain_took = alternate(lambda: model.capture(tokens, sites), lambda: body(input_ids=tokens, use_cache=False), label="capture")
    name = f"capture of all {len(sites)} residual sites ÷ plain forward without logits"
    ours, peer = round(tokens.numel() / took), round(tokens.numel() / plain_took)
    row(name, ratio=plain_took / took, bar=0.9, ours=ours, peer=peer, unit="tokens/s", equal="the last of them, to the bit")


def plain_of(model: Model) -> Any:
    """The same weights in modules that have no hooks of ours."""
    hf: Any = model.hf
    plain = type(hf)(hf.config)
    plain.load_state_dict(hf.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = hf.generation_config
    return plain.eval()


def together(model: Model) -> None:
    """32 clients at once over one after the other."""
    bodies = [json.dumps(asked(model, i)).encode() for i in range(CLIENTS)]
    with tempfile.TemporaryDirectory() as folder, serving(create_app(Path(folder), model_loader=lender(model), models=["demo"])) as address:

        def ask(body: bytes) -> dict[str, Any]:
            answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"content-type": "application/json"}, timeout=600)
            answer.raise_for_status()
            return answer.json()

        ask(bodies[0])
        start = time.perf_counter()
        serial = [ask(body) for body in bodies]
        serial_took, start = time.perf_counter() - start, time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            at_once = list(pool.map(ask, bodies))
        took = time.perf_counter() - start
        metrics = httpx.get(f"{address}/metrics").text
    same = sum(said(one) == said(other) for one, other in zip(serial, at_once, strict=True))
    assert same == CLIENTS, f"only {same} of {CLIENTS} answers are those that each gets alone"
    tokens = sum(answer["usage"]["completion_tokens"] for answer in serial)
    say(metrics)
    name = f"{CLIENTS} clients with edits of their own, at once ÷ one by one"
    equal = f"all {CLIENTS} answers, each token"
    row(name, ratio=serial_took / took, bar=4, ours=round(tokens / took, 1), peer=round(tokens / serial_took, 1), unit="tokens/s", equal=equal)


def asked(model: Model, client: int) -> dict[str, Any]:
    """Half of the clients greedy, half sampled; every one with its own directions and prompt."""
    from microtome.directions import Direction

    edits: list[Edit] = []
    for layer in (10, 14, 18):
        vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(100 * client + layer))
        component = Direction(name=f"{client}", site=Site("resid_post", layer), vector=vector)
        edits.append(Add(component=component, strength=of_norm(0.05)) if layer < 18 else Ablate(component=component))
    said = [{"role": "user", "content": f"Tell me {client + 2} facts about the sea" + "." * (client % 5)}]
    edit_json = EditSet(edits=tuple(edits)).to_json()
    numbers = {"max_tokens": CLIENT_TOKENS, "temperature": float(client % 2), "seed": client}
    return {"model": "demo", "messages": said, "edits": edit_json, "logprobs": True, **numbers}


def said(answer: dict[str, Any]) -> list[str]:
    return [token["token"] for token in answer["choices"][0]["logprobs"]["content"]]


def flood() -> None:
    """Ten thousand requests to a tiny model that takes one row at a time."""
    n, model = (500 if QUICK else 10_000), tiny("llama", seed=3)
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 40, "temperature": 0}).encode()
    app_limits = Limits(rows=1, waiting=2)
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Path(folder), model_loader=lender(model), models=["tiny"], limits=app_limits)
        with serving(app) as address:

            def some(count: int) -> Counter[int]:
                found: Counter[int] = Counter()
                with httpx.Client(headers={"content-type": "application/json"}, timeout=120) as client:
                    for _ in range(count):
                        found[client.post(f"{address}/v1/chat/completions", content=body).status_code] += 1
                return found

            first = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"content-type": "application/json"}).json()
            start = time.perf_counter()
            with ThreadPoolExecutor(50) as pool:
                found = sum(pool.map(some, [n // 50] * 50), Counter[int]())
            took = time.perf_counter() - start
            last = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"content-type": "application/json"}).json()
    assert found.keys() <= {200, 429}, found
    assert found.total() == n
    assert first["choices"] == last["choices"], "the model is not as it was"
    row(f"{n} requests at once: answered or turned away", ratio=1.0, bar=1, ours=n, peer=n, unit="requests", equal="the answer before and after")
    say(f"{dict(found)} in {took:.1f} s")


def lender(model: Model) -> Callable[[str, Progress], Model]:
    return lambda ref, progress: model


def alternate(ours: Callable[[], object], peer: Callable[[], object], *, label: str) -> tuple[float, float]:
    """Median seconds of each, in turns."""
    took: list[float] = []
    plain: list[float] = []
    for _ in range(ROUNDS):
        for times, work in ((took, ours), (plain, peer)):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        say(f"{label}: ours {took[-1]:.2f} s, plain {plain[-1]:.2f} s")
    return statistics.median(took), statistics.median(plain)


if __name__ == "__main__":
    main()
