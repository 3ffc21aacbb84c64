"""Weights of DOAP's L2-Net as a start for ContextDesc's local network, GeoDesc.

Both have the same convolutions, with these differences:

* At its strides DOAP pads with zeros before the first row and column, GeoDesc after the last one.
  GeoDesc with all kernels turned by 180° therefore computes DOAP's descriptor of the turned patch,
  which is as good: DOAP is trained with patches turned by multiples of 90°.
* GeoDesc's batch normalisation has neither gain nor bias, and its convolutions have no bias. In
  evaluation the running statistics replace them; training uses the batch's statistics and has to
  recover from the loss of DOAP's biases, which are small.
* DOAP's last layer has a bias, which moves to the bias of geometric context, since that is added to
  the local feature.
"""

import torch
from torch import Tensor, nn

from featplug.networks.contextdesc import ContextDesc
from featplug.networks.l2net import DOAP, l2_net

_NUM_CONVOLUTIONS = 7
_MIN_GAIN = 1e-3
"""Lower bound of a normalisation's gains; a channel of a smaller one is practically constant."""


def is_l2_net(network: DOAP) -> bool:
    """Return whether a network has the layers of L2-Net with 128 outputs, and no transformer."""
    layers = torch.tensor([layer.encode() for layer in l2_net()])
    return not network.has_transformer and torch.equal(network.trunk.layers.cpu(), layers)


@torch.no_grad()
def start_from_doap(network: ContextDesc, doap: DOAP) -> None:
    """Set the local network so that it computes, in evaluation, DOAP's outputs of turned patches.

    A bias of geometric context is set, too; :func:`is_l2_net` must hold for ``doap``.
    """
    for number in range(_NUM_CONVOLUTIONS):
        convolution, norm = (getattr(doap.trunk, f"{kind}{number + 1}") for kind in ("conv", "bn"))
        gain, offset = _scaled(convolution, norm)
        turned = convolution.weight.flip(2, 3)
        layer = getattr(network.local, f"conv{number}")
        if number == _NUM_CONVOLUTIONS - 1:
            layer.weight.copy_(turned * gain[:, None, None, None])
            network.geometric_context.context_trans.bias.copy_(offset)
            continue
        sign = torch.where(gain < 0, -1.0, 1.0)
        size = gain.abs().clamp(min=_MIN_GAIN)
        layer.weight.copy_(turned * sign[:, None, None, None])
        layer.bn.running_mean.copy_(-offset / size)
        layer.bn.running_var.copy_((size**-2 - layer.bn.eps).clamp(min=0))


def _scaled(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Compute gain and offset per channel of a convolution's bias and normalisation together."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    gain = norm.weight * (variance + norm.eps).rsqrt()
    bias = torch.zeros_like(mean) if convolution.bias is None else convolution.bias
    return gain, (bias - mean) * gain + norm.bias
