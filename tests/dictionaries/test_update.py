"""One step of Adam on rows, free or held at a norm, is torch's Adam on the projected gradient, in fp64."""

from types import ModuleType

import pytest
import torch

from microtome.dictionaries.kernels import AdamStep, Moments, adam, native, native_ops, torch_ops
from microtome.errors import ShapeMismatch

COMPILED = pytest.param(native_ops, marks=pytest.mark.skipif(not native.available(), reason=f"no compiled kernels here: {native.why_not()}"))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def expected(weight: torch.Tensor, gradients: list[torch.Tensor], *, rate: float, copies: int) -> torch.Tensor:
    """Step by step in fp64."""
    parameter = torch.nn.Parameter(weight.double())
    optimiser = torch.optim.Adam([parameter], lr=rate)
    for gradient in gradients:
        slope = gradient.double()
        if copies:
            slope = slope - copies * (slope * parameter.data).sum(1, keepdim=True) * parameter.data
        parameter.grad = slope
        optimiser.step()
        if copies:
            parameter.data /= copies**0.5 * parameter.data.norm(dim=1, keepdim=True)
    return parameter.data


@pytest.mark.parametrize("backend", [torch_ops, COMPILED])
@pytest.mark.parametrize("copies", [0, 1, 3])
@pytest.mark.parametrize("shape", [(37, 5), (16, 64), (3, 203)])
def test_steps_equal_those_of_torch(backend: ModuleType, copies: int, shape: tuple[int, int]) -> None:
    weight = torch.nn.functional.normalize(normal(*shape), dim=1) / max(copies, 1) ** 0.5
    gradients = [normal(*shape, seed=1 + step) * 10.0 ** (-step) for step in range(4)]
    found, moments = weight.clone(), Moments.of(weight)
    for taken, gradient in enumerate(gradients, start=1):
        backend.adam(found, gradient.clone(), moments=moments, step=AdamStep(rate=0.01, taken=taken, copies=copies))
    torch.testing.assert_close(found.double(), expected(weight, gradients, rate=0.01, copies=copies), rtol=1e-5, atol=1e-6)
    if copies:
        torch.testing.assert_close(found.norm(dim=1), torch.full((shape[0],), copies**-0.5))


@pytest.mark.parametrize("backend", [torch_ops, COMPILED])
def test_a_vector_learns_and_what_is_not_a_number_shows(backend: ModuleType) -> None:
    bias, gradient = normal(19), normal(19, seed=1)
    gradient[4] = torch.nan
    found = bias.clone()
    backend.adam(found, gradient.clone(), moments=Moments.of(bias), step=AdamStep(rate=0.01, taken=1))
    torch.testing.assert_close(found, expected(bias, [gradient], rate=0.01, copies=0).float(), equal_nan=True)
    assert found.isnan().sum() == 1


def test_a_gradient_of_another_shape_is_named() -> None:
    weight = normal(4, 6)
    with pytest.raises(ShapeMismatch, match="not that of the weights"):
        adam(weight, normal(4, 5), moments=Moments.of(weight), step=AdamStep(rate=0.01, taken=1))
