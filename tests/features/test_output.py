"""Direct logits equal the full product; neighbours equal all-pairs cosine."""

import torch

from microtome.features import FeatureIndex
from microtome.features.output import direct_logits, neighbours
from tests.features.small_store import CONFIG, D_DICT, SITE, Made, random_sae


def test_logits_equal_the_full_product_over_usable_tokens(index: FeatureIndex, made: Made) -> None:
    directions = random_sae(made.model.width(SITE)).directions()
    full = made.model.unembed() @ (directions / directions.norm(dim=1, keepdim=True)).T
    full[~made.model.vocabulary_mask()] = float("nan")
    for feature in range(0, D_DICT, 6):
        column, logits = full[:, feature], index.card(feature).logits
        usable = column[~column.isnan()].sort().values
        torch.testing.assert_close(torch.tensor([entry.logit for entry in logits.top]), usable.flip(0)[: CONFIG.logits])
        torch.testing.assert_close(torch.tensor([entry.logit for entry in logits.bottom]), usable[: CONFIG.logits])
        for entry in (*logits.top, *logits.bottom):
            torch.testing.assert_close(torch.tensor(entry.logit), column[entry.token], msg="the id belongs to the value")
            assert entry.piece == index.store.vocabulary.piece(entry.token)


def test_no_special_or_unused_token_is_listed(made: Made) -> None:
    model, n = made.model, made.model.n_vocab
    directions, mask = torch.randn(100, model.d_model), torch.rand(n) > 0.5
    ends = direct_logits(directions, model, mask=mask, limit=n + 5)
    assert ends.top.ids.shape[1] == int(mask.sum()), "a limit above the vocabulary takes all of it"
    assert mask[ends.top.ids].all()
    assert mask[ends.bottom.ids].all()
    nothing = direct_logits(directions, model, mask=torch.zeros_like(mask), limit=5)
    assert nothing.top.ids.shape == nothing.bottom.ids.shape == (100, 0)


def test_neighbours_equal_all_pairs(index: FeatureIndex, made: Made) -> None:
    directions = random_sae(made.model.width(SITE)).directions()
    cosines = torch.nn.functional.cosine_similarity(directions[:, None], directions[None], dim=2).fill_diagonal_(-2)
    for feature in range(0, D_DICT, 6):
        near = index.card(feature).neighbours
        wanted = cosines[feature].topk(CONFIG.neighbours)
        assert [n.feature for n in near] == wanted.indices.tolist()
        torch.testing.assert_close(torch.tensor([n.cosine for n in near]), wanted.values)


def test_neighbours_over_several_blocks_leave_the_feature_itself_out() -> None:
    directions = torch.randn(600, 5)
    found = neighbours(directions, limit=3)
    assert not (found.ids == torch.arange(600)[:, None]).any()
    assert neighbours(directions[:2], limit=16).ids.tolist() == [[1], [0]]
