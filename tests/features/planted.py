"""An index whose firings are planted: everything is made by the real code but the encoder's answers."""

import json

import numpy as np
import numpy.typing as npt
import torch

from microtome.artifacts import Draft
from microtome.dictionaries import SAE, ReLU, save
from microtome.features import FeatureIndex
from microtome.features.arrays import write_arrays
from microtome.features.context import context_of
from microtome.features.describe import Describe
from microtome.features.members import Members
from microtome.features.postings import INVERTED, Postings, forward_name, id_dtype, write_inverted
from microtome.features.rows import FILE, write_rows
from microtome.features.rules import rulebook
from microtome.features.statistics import totals_of
from microtome.features.store import FACTS, VOCABULARY
from microtome.progress import Throttled
from microtome.shapes import Float, Tensor
from tests.features.small_store import CONFIG, SITE, Made


def planted(
    made: Made,
    index: FeatureIndex,
    dense: npt.NDArray[np.float32],
    *,
    encoders: Float[Tensor, "d_dict d_model"],
    decoders: Float[Tensor, "d_dict d_model"],
    name: str,
) -> FeatureIndex:
    """An index with the activations `dense` [tokens, features] on the tokens that `index` keeps, of an SAE with these directions."""
    keep, d_dict = index.store.postings.keep(), dense.shape[1]
    weights = {"W_enc": encoders, "W_dec": decoders, "b_enc": torch.zeros(d_dict), "b_dec": torch.zeros(decoders.shape[1])}
    sae = SAE(site=SITE, nonlinearity=ReLU(), weights=weights, input_scale=1.0)
    place = made.workspace.place("dictionary", name)
    with Draft.open(place, "dictionary", config={}, inputs={"corpus": made.corpus.id}) as draft:
        save(sae, draft)
        dictionary = draft.finish()
    out = made.workspace.place("index", name)
    inputs = {"corpus": made.corpus.id, "dictionary": dictionary.id, "model": made.model.fingerprint}
    with Draft.open(out, "index", config=CONFIG, inputs=inputs) as draft:
        n = len(keep)
        rows, ids = np.nonzero(dense * keep[:, None])
        indptr = np.searchsorted(rows, np.arange(n + 1)).astype(np.int64)
        with draft.place(forward_name(0)) as file:
            arrays = {"indptr": indptr, "ids": ids.astype(id_dtype(d_dict)), "values": dense[rows, ids].astype(np.float16), "keep": keep}
            write_arrays(file, arrays)
        with draft.place(INVERTED) as file:
            write_inverted(file, [draft.path / forward_name(0)], d_dict=d_dict, starts=[0])
        postings = Postings([draft.path / forward_name(0)], draft.path / INVERTED, ranges=[(0, n)])
        context = context_of(made.corpus, keep=keep)
        totals, vocabulary = totals_of(context, n_vocab=made.model.n_vocab), index.store.vocabulary
        rules = rulebook(context, vocabulary, fire_share=CONFIG.fire_share)
        describe = Describe(postings=postings, context=context, totals=totals, rules=rules, vocabulary=vocabulary, config=CONFIG)
        with draft.place(FILE) as file:
            write_rows(file, describe.tables(Members(sae), made.model, tell=Throttled(None)))
        draft.write(VOCABULARY, (index.path / VOCABULARY).read_bytes())
        facts = json.loads((index.path / FACTS).read_bytes())
        facts |= {"members": [{"reads": str(SITE), "writes": [str(SITE)], "features": d_dict}], "ranges": [[0, n]]}
        draft.write(FACTS, json.dumps(facts))
        draft.finish()
    return FeatureIndex.open(out, made.workspace)
