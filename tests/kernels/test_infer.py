"""Inference kernels against the same arithmetic in numpy."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tombola.kernels.infer import VARIANTS, Inference, Rows, library

SIZES = (0, 1, 2, 5, 16, 17, 33, 64, 65, 130)


def variants() -> list[str]:
    found = library()
    return [] if found is None else list(VARIANTS[: found.tombola_infer_variant() + 1])


def layers_of(biases: bool = True) -> list[Rows]:
    """40-19-23-5; some rows keep nothing, some inputs are never read."""
    draw, found = np.random.default_rng(0), []
    for number, (inputs, outputs) in enumerate([(40, 19), (19, 23), (23, 5)]):
        kept = draw.random((outputs, inputs)) < 0.3
        kept[2] = kept[:, 3] = False
        found.append(
            Rows(
                inputs,
                np.concatenate([[0], kept.sum(axis=1).cumsum()]).astype(np.int32),
                np.nonzero(kept)[1].astype(np.int32),
                draw.normal(size=kept.sum()).astype(np.float32),
                draw.normal(size=outputs).astype(np.float32) if biases else None,
                relu=number < 2,
            )
        )
    return found


def slowly(layers: list[Rows], inputs: np.ndarray) -> np.ndarray:
    """In float64, one weight after the other."""
    hidden = inputs.astype(np.float64)
    for layer in layers:
        out = np.zeros((len(hidden), layer.outputs))
        for unit in range(layer.outputs):
            for place in range(layer.row[unit], layer.row[unit + 1]):
                out[:, unit] += layer.weight[place] * hidden[:, layer.column[place]]
        out += 0.0 if layer.bias is None else layer.bias
        hidden = np.where(out <= 0.0, 0.0, out) if layer.relu else out
    return hidden


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("biases", [True, False])
def test_outputs_are_those_of_plain_arithmetic(variant: str, biases: bool) -> None:
    layers = layers_of(biases)
    kernel = Inference(layers, variant)
    for count in SIZES:
        inputs = np.random.default_rng(count).normal(size=(count, 40)).astype(np.float32)
        np.testing.assert_allclose(kernel(inputs), slowly(layers, inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 16])
def test_what_is_no_number_shows(count: int) -> None:
    inputs = np.full((count, 40), np.nan, dtype=np.float32)
    layers = layers_of()
    assert np.isnan(Inference(layers[:1])(inputs)).any()


def test_threads_share_a_network() -> None:
    kernel = Inference(layers_of())
    draw = np.random.default_rng(1)
    parts = [draw.normal(size=(1 + n % 40, 40)).astype(np.float32) for n in range(80)]
    alone = [kernel(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for one, other in zip(alone, pool.map(kernel, parts), strict=True):
                assert np.array_equal(one, other)


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 39\): want \(examples, 40\)"):
        Inference(layers_of())(np.zeros((2, 39), dtype=np.float32))
