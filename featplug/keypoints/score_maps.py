"""Maxima of score maps, on any device."""

import torch
import torch.nn.functional as F
from torch import Tensor


def window_maximum(scores: Tensor, radius: int) -> Tensor:
    """Return the maximum of each pixel's window, which is cut off at the border.

    The same as ``max_pool2d`` with a stride of 1; several times as fast on a CPU, since windows of
    twice the size are the maxima of two smaller ones.

    Args:
        scores: …×H×W.
        radius: pixels of the window to each side.
    """
    size = 2 * radius + 1
    for axis, padding in ((-2, (0, 0, radius, radius)), (-1, (radius, radius))):
        reached = 1
        scores = F.pad(scores, padding, value=-torch.inf)
        while reached < size:
            step = min(reached, size - reached)
            num = scores.shape[axis] - step
            scores = torch.maximum(scores.narrow(axis, 0, num), scores.narrow(axis, step, num))
            reached += step
    return scores
