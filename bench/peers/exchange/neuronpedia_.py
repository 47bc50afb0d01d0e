"""With neuronpedia's own package: write an upload of its own, and open what microtome writes. `python neuronpedia_.py make|open FOLDER`."""

import gzip
import json
import sys
from pathlib import Path

from neuronpedia.np_activation import Activation
from neuronpedia.np_explanation import Explanation
from neuronpedia.np_feature import Feature, Logit
from neuronpedia.requests.feature_request import MAX_FEATURES_PER_BATCH, FeatureRequest


class Kept(FeatureRequest):
    """Keeps what would be sent to the service."""

    def __init__(self) -> None:
        self.sent: list[dict] = []

    def send_request(self, method: str, json: dict | None = None, uri: str = "", **_: object) -> None:
        assert (method, uri) == ("POST", "upload-batch")
        self.sent.append(json)


def make(folder: Path) -> None:
    of = {"modelId": "tiny", "source": "3-made", "index": 7}
    feature = Feature(
        **of,
        density=0.125,
        top_logits=[Logit(token=" the", value=2.5), Logit(token="日", value=1.0)],
        bottom_logits=[Logit(token='"', value=-0.5)],
        explanations=[Explanation(**of, text="numbers", method="np_max-act", explainer_model="gpt-4o-mini")],
        activations=[Activation(**of, tokens=["a", " 日", "本\n"], values=[0.0, 1.5, 0.25], quantileMin=1.0, quantileMax=2.0, quantileFraction=0.25)],
    )
    request = Kept()
    request.upload_batch("tiny", "3-made", [feature])
    (folder / "upload-0.json").write_text(json.dumps(request.sent[0], ensure_ascii=False))


def open_(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    n_rows, rows = 0, {}
    (source,) = folder.glob("neuronpedia/v1/*/*")
    for part, known in (("activations", Activation), ("explanations", Explanation)):
        for file in sorted((source / part).glob("*.jsonl.gz")):
            for line in gzip.decompress(file.read_bytes()).decode().splitlines():
                row = json.loads(line)
                row["source"] = row["layer"]  # its API renames the column so
                if row.get("binContains") == -1:  # how its own exports mark the strongest; this client refuses it
                    row["binContains"] = None
                found = known.from_np_db_json(row)
                rows.setdefault((part, found.index), []).append(found)
                n_rows += 1
    for number, feature in expected.items():
        assert ["".join(each.tokens) for each in rows.get(("activations", int(number)), [])] == feature["texts"]
        assert rows[("explanations", int(number))][0].text == feature["label"]
    request, n_features = Kept(), 0
    for file in folder.glob("neuronpedia-upload/*/upload-*.json"):
        batch = json.loads(file.read_text())
        assert len(batch["features"]) <= MAX_FEATURES_PER_BATCH
        of = {"modelId": batch["modelId"], "source": batch["source"]}
        features = [
            Feature(
                **of,
                index=each["index"],
                density=each["density"],
                top_logits=[Logit(**logit) for logit in each["topLogits"]],
                bottom_logits=[Logit(**logit) for logit in each["bottomLogits"]],
                explanations=[
                    Explanation(**of, index=each["index"], text=e["text"], method=e["methodName"], explainer_model=e["modelName"])
                    for e in each["explanations"]
                ],
                activations=[Activation(**of, index=each["index"], **activation) for activation in each["activations"]],
            )
            for each in batch["features"]
        ]
        request.upload_batch(batch["modelId"], batch["source"], features)
        assert request.sent[-1] == batch, "what its client would send is not what the file holds"
        n_features += len(features)
    print(json.dumps({"bundle rows read": n_rows, "features its client would send as they stand": n_features}))


{"make": make, "open": open_}[sys.argv[1]](Path(sys.argv[2]))
