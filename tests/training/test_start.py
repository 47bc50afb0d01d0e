"""Training starts with inputs of norm √d around their mean, and the decoder's bias in the middle."""

import pytest
import torch
import torch.nn.functional as F

from microtome.errors import ActivationsNotFinite, NotEnoughTokens
from microtome.models import Site
from microtome.training import TrainConfig
from microtome.training.layout import layouts
from microtome.training.start import Start, geometric_median, start_from
from tests.training.planted import SITE, planted_rows, small_config

WRITE = Site("mlp_out", 1)


def started(rows: torch.Tensor, config: TrainConfig) -> Start:
    return start_from({SITE: rows}, config, layouts=layouts(config))


def test_scaled_inputs_have_root_mean_square_distance_root_d_from_their_mean() -> None:
    rows = planted_rows(1000)
    scaled = started(rows, small_config()).scaled({SITE: rows})[SITE]
    assert float((scaled - scaled.mean(0)).square().sum(1).mean()) == pytest.approx(rows.shape[1], rel=1e-4)


def test_rows_begin_tied_with_a_unit_decoder_and_a_half_encoder() -> None:
    weights = started(planted_rows(500), small_config()).weights[0].members[0]
    torch.testing.assert_close(weights["W_dec"].norm(dim=1), torch.ones(32))
    torch.testing.assert_close(weights["W_enc"], 0.5 * weights["W_dec"])


def test_a_transcoders_decoder_begins_where_the_linear_map_takes_its_encoder() -> None:
    """The write is a rotation of the read, so decoder rows are rotated encoder rows."""
    read = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    config = small_config(kind="transcoder", writes=(WRITE,))
    weights = start_from({SITE: read, WRITE: read @ rotation}, config, layouts=layouts(config)).weights[0].members[0]
    torch.testing.assert_close(F.cosine_similarity(weights["W_enc"] @ rotation, weights["W_dec"]), torch.ones(32), atol=1e-3, rtol=0)


def test_the_mean_is_the_start_when_asked_for() -> None:
    rows = planted_rows(500)
    start = started(rows, small_config(init="mean"))
    torch.testing.assert_close(start.weights[0].b_dec / start.sites[SITE].scale, rows.mean(0))


def test_the_geometric_median_of_points_on_a_line_is_their_median() -> None:
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [1000.0, 0.0]])
    torch.testing.assert_close(geometric_median(line, iterations=2000, tolerance=1e-9), torch.tensor([2.0, 0.0]), atol=0.05, rtol=0)


def test_no_other_point_is_nearer_to_all_rows_than_the_geometric_median() -> None:
    rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).exp()
    point = geometric_median(rows, tolerance=1e-7)
    least = (rows - point).norm(dim=1).sum()
    for step in 0.05 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1)):
        assert (rows - point - step).norm(dim=1).sum() > least


def test_rows_that_do_not_vary_are_refused() -> None:
    with pytest.raises(NotEnoughTokens, match="do not vary"):
        started(torch.ones(100, 16), small_config())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_named_so(value: float) -> None:
    rows = planted_rows(500)
    rows[100, 3] = value
    with pytest.raises(ActivationsNotFinite, match="not all finite"):
        started(rows, small_config())
