"""With circuit-tracer's own model of a feature and its pages' own reader: `python circuit_tracer_.py make|open FOLDER` (open needs Node.js)."""

import gzip
import importlib.util
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

ROOT = Path(importlib.util.find_spec("circuit_tracer").submodule_search_locations[0])
spec = importlib.util.spec_from_file_location("feature_models", ROOT / "frontend/feature_models.py")
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)


def make(folder: Path) -> None:
    example = models.Example(tokens=["a", "\\xe6\\x97", "\\xa5"], tokens_acts_list=[0.0, 1.5, 0.5], train_token_ind=1, is_repeated_datapoint=True)
    feature = models.Model(
        transcoder_id="tiny-3",
        index=7,
        examples_quantiles=[models.ExamplesQuantile(quantile_name="Subsample Interval 0", examples=[example])],
        top_logits=[" the"],
        bottom_logits=["x"],
        act_min=0.25,
        act_max=2.25,
        quantile_values=[i / 100 for i in range(100)],
        histogram=[4, 2],
        activation_frequency=0.0125,
    )
    (folder / "feature.json").write_text(feature.model_dump_json())


def open_(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    features = folder / "circuit-tracer/features"
    index = json.loads(gzip.decompress((features / "index.json.gz").read_bytes()))
    ((layer, facts),) = index.items()
    raw = (features / facts["filename"]).read_bytes()
    for low, high in zip(facts["offsets"], facts["offsets"][1:], strict=False):
        size = struct.unpack("<I", raw[low : low + 4])[0]
        models.Model.model_validate_json(zlib.decompress(raw[low + 4 : low + 4 + size]))
        assert low + 4 + size == high
    script = Path(__file__).with_name("circuit_tracer_.mjs")
    run = subprocess.run(["node", script, ROOT / "frontend/assets", features, layer, *expected], capture_output=True, text=True, check=True)
    for number, found in json.loads(run.stdout).items():
        assert found["texts"] == expected[number]["texts"], number
        assert found["top_logits"] == expected[number]["raises"]
    print(json.dumps({"records its model validates": len(facts["offsets"]) - 1, "features its pages load by byte range": len(expected)}))


{"make": make, "open": open_}[sys.argv[1]](Path(sys.argv[2]))
