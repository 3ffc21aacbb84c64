"""Tests of the losses; the tolerances of their golden values and gradients."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tests.golden.parity import Parity


def compare_value(parity: Parity, system: str, name: str, value: Tensor, expected: float) -> None:
    """Compare a scalar: 1e-5 of it is allowed."""
    actual, golden = np.array([value.item()]), np.array([expected])
    parity.compare(f"losses: {system}", name, actual, golden, 1e-5 * abs(golden[0]))


def compare_gradient(
    parity: Parity, system: str, name: str, gradient: Tensor, expected: np.ndarray
) -> None:
    """Compare a gradient: 1e-4 of its largest value is allowed."""
    atol = 1e-4 * np.abs(expected).max()
    parity.compare(f"losses: {system}", f"gradient of {name}", gradient.numpy(), expected, atol)
