"""DOAP's network: L2-Net, optionally behind a spatial transformer, with any layers a file lists.

He et al., "Local Descriptors Optimized for Average Precision", CVPR 2018, section 5 and appendix B.
The descriptor network is that of Tian et al., "L2-Net", CVPR 2017, without centre-surround. The
paper does not describe the transformer's localisation network, so a network is a list of layers;
the state dict has that list in integer buffers, from which :meth:`DOAP.from_state` builds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH_SIZE = 32
"""Side in pixels of the patches that L2-Net describes."""
TRANSFORMER_PATCH_SIZE = 42
"""Side in pixels of the patches that DOAP's spatial transformer reads."""
NUM_BITS = 256
"""Outputs of a network for binary descriptors; the others have 128."""

_MAX_LENGTH = 4096
_MAX_LAYERS = 100

KINDS = ("conv", "bn", "relu", "maxpool", "avgpool")
"""Kinds of layers; a kind's position is its number in the state dict."""


@dataclass(frozen=True)
class Layer:
    """One layer of a chain. Pairs are (vertical, horizontal)."""

    kind: str
    """One of :data:`KINDS`."""
    channels: tuple[int, int] = (0, 0)
    """Channels of input and output; equal for ``bn``, unused for ``relu`` and pooling."""
    size: tuple[int, int] = (1, 1)
    """Size of a convolution's kernel or a pooling window."""
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, bottom, left, right; zeros for ``conv``, left out of the pooled values."""
    dilation: tuple[int, int] = (1, 1)
    bias: bool = False
    """Whether a convolution has a bias."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for lengths that no layer has."""
        positive = (*self.size, *self.stride, *self.dilation)
        lengths = (*self.channels, *self.padding, *positive)
        if min(positive) < 1 or min(lengths) < 0 or max(lengths) > _MAX_LENGTH:
            raise ValueError(f"a layer {self.kind} has sizes, strides or paddings that none has")

    def encode(self) -> list[int]:
        """Return the layer as 14 integers."""
        lengths = (*self.channels, *self.size, *self.stride, *self.padding, *self.dilation)
        return [KINDS.index(self.kind), *lengths, int(self.bias)]

    @classmethod
    def decode(cls, row: Sequence[int]) -> "Layer":
        """Invert :meth:`encode`; raises ``ValueError`` if the integers are not a layer."""
        if len(row) != 14 or not 0 <= row[0] < len(KINDS):
            raise ValueError(f"{list(row)} is not a layer")
        kind, c_in, c_out, h, w, step_v, step_h, t, b, le, r, dil_v, dil_h, bias = row
        pairs = (c_in, c_out), (h, w), (step_v, step_h), (t, b, le, r), (dil_v, dil_h)
        return cls(KINDS[kind], *pairs, bool(bias))


def l2_net(num_outputs: int = 128) -> list[Layer]:
    """Return the layers of L2-Net for patches of :data:`PATCH_SIZE`."""
    layers = []
    for c_in, c_out, stride in (
        (1, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1),
    ):  # fmt: skip
        layers += [
            Layer("conv", (c_in, c_out), (3, 3), (stride, stride), (1, 1, 1, 1), bias=True),
            Layer("bn", (c_out, c_out)),
            Layer("relu"),
        ]
    last = Layer("conv", (128, num_outputs), (8, 8), bias=True)
    return [*layers, last, Layer("bn", (num_outputs, num_outputs))]


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """Return the names of layers in the state dict: ``conv1``, ``bn1``, ``relu1``, …."""
    if len(layers) > _MAX_LAYERS:
        raise ValueError(f"it has {len(layers)} layers, more than {_MAX_LAYERS}")
    kinds = [layer.kind for layer in layers]
    return [f"{kind}{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]


def output_shape(layers: Sequence[Layer], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Compute channels, height and width of a chain's output from those of its input.

    Raises:
        ValueError: the layers do not fit one another or the input.
    """
    channels, *sides = shape
    for name, layer in zip(layer_names(layers), layers, strict=True):
        if layer.kind in ("conv", "bn"):
            if layer.channels[0] != channels:
                raise ValueError(f"{name} takes {layer.channels[0]} channels and gets {channels}")
            channels = layer.channels[1]
        if layer.kind in ("bn", "relu"):
            continue
        for axis in (0, 1):
            extent = layer.dilation[axis] * (layer.size[axis] - 1) + 1
            room = sides[axis] + sum(layer.padding[2 * axis : 2 * axis + 2]) - extent
            if room < 0:
                raise ValueError(f"{name} is {extent} pixels wide and gets {sides[axis]}")
            sides[axis] = room // layer.stride[axis] + 1
    return channels, sides[0], sides[1]


class _Pool(nn.Module):
    """Pooling over the pixels of each window inside the map, as in MatConvNet."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        top, bottom, left, right = layer.padding
        self.border = (left, right, top, bottom)
        self.is_max, self.size, self.stride = layer.kind == "maxpool", layer.size, layer.stride

    def forward(self, maps: Tensor) -> Tensor:
        if self.is_max:
            return F.max_pool2d(F.pad(maps, self.border, value=-torch.inf), self.size, self.stride)
        inside = F.pad(torch.ones_like(maps[:1, :1]), self.border)
        sums = F.avg_pool2d(F.pad(maps, self.border), self.size, self.stride)
        return sums / F.avg_pool2d(inside, self.size, self.stride)


class LayerChain(nn.Sequential):
    """A chain of layers, named by :func:`layer_names`, which the state dict lists."""

    layers: Tensor
    """K×14 int64: :meth:`Layer.encode` of each."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        for name, layer in zip(layer_names(layers), layers, strict=True):
            if layer.kind == "conv":
                top, bottom, left, right = layer.padding
                symmetric = top == bottom and left == right
                if not symmetric:
                    self.add_module(f"pad_{name}", nn.ZeroPad2d((left, right, top, bottom)))
                sizes = layer.size, layer.stride, (top, left) if symmetric else 0, layer.dilation
                self.add_module(name, nn.Conv2d(*layer.channels, *sizes, bias=layer.bias))
            elif layer.kind == "bn":
                self.add_module(name, nn.BatchNorm2d(layer.channels[0]))
            elif layer.kind == "relu":
                self.add_module(name, nn.ReLU(inplace=True))
            else:
                self.add_module(name, _Pool(layer))
        self.register_buffer("layers", torch.tensor([layer.encode() for layer in layers]))

    def forward(self, patches: Tensor) -> Tensor:
        """Run the chain on N×S×S; returns N×C×h×w."""
        # The faster layout on CPUs and on tensor cores. A clone, because contiguous() leaves the
        # strides of a map with one channel as they are, and the convolutions go by the strides.
        return super().forward(patches[:, None].clone(memory_format=torch.channels_last))


def normalise_patches(patches: Tensor) -> Tensor:
    """Bring patches N×S×S, on any scale, to zero mean and unit deviation of the *sample* (N − 1).

    A patch without contrast becomes zeros.
    """
    # The first pixel is subtracted first, so that a constant patch becomes 0 and not a rounding
    # error that the division would amplify.
    patches = patches - patches[:, :1, :1]
    patches = patches - patches.mean((1, 2), keepdim=True)
    deviation = patches.std((1, 2), keepdim=True)
    return patches / deviation.masked_fill(deviation == 0, 1)


def transform_patches(patches: Tensor, affine: Tensor, size: int) -> Tensor:
    """Resample patches through an affine map, as MatConvNet and the authors' PaddedBilinear do.

    Args:
        patches: N×S×S; beyond their border the outermost pixels repeat for S/2 pixels (rounded
            half up), and then come zeros.
        affine: N×6, a1 … a6. A pixel at v (vertical) and u (horizontal) of the output, both −1 to
            1 from the first pixel's centre to the last one's, is read at v' = a1·v + a2·u + a5,
            u' = a3·v + a4·u + a6; the identity is (1, 0, 0, 1, 0, 0).
        size: side of the output.

    Returns:
        N×size×size. The identity reads a little more than the patch, because −1 and 1 lie a
        quarter of the padded patch inside it, not at the centres of the patch's corners.
    """
    margin = (patches.shape[-1] + 1) // 2
    padded = F.pad(patches[:, None], (margin,) * 4, mode="replicate")
    a1, a2, a3, a4, a5, a6 = affine.to(patches.dtype).unbind(1)
    rows = torch.stack([a4, a3, a6, a2, a1, a5], dim=1).view(-1, 2, 3)  # x first
    grid = F.affine_grid(rows, [len(patches), 1, size, size], align_corners=True)
    return F.grid_sample(padded, grid / 2, "bilinear", "zeros", align_corners=True)[:, 0]


class DOAP(nn.Module):
    """Patches to descriptors, without or with a spatial transformer in front.

    Args:
        trunk: layers from a patch to the outputs; L2-Net with 128 outputs if None.
        localisation: layers from a patch to the six numbers of :func:`transform_patches`; none
            for a network without transformer.
        patch_size: side of the input patches.
        sampled_size: side of the patches that the transformer samples.

    Raises:
        ValueError: the layers do not fit the sizes.
    """

    sizes: Tensor
    """2 int64: ``patch_size`` and ``sampled_size``."""

    def __init__(
        self,
        trunk: Sequence[Layer] | None = None,
        localisation: Sequence[Layer] = (),
        patch_size: int = PATCH_SIZE,
        sampled_size: int = PATCH_SIZE,
    ) -> None:
        super().__init__()
        trunk = l2_net() if trunk is None else trunk
        self.num_outputs = check_layers(trunk, localisation, patch_size, sampled_size)
        self.patch_size, self.sampled_size = patch_size, sampled_size
        self.localisation = LayerChain(localisation) if localisation else None
        self.trunk = LayerChain(trunk)
        self.register_buffer("sizes", torch.tensor([patch_size, sampled_size]))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "DOAP":
        """Build the network of a state dict; raises ``ValueError`` if it is another's."""
        missing = [key for key in ("sizes", "trunk.layers") if key not in state]
        if missing:
            raise ValueError(f"missing {', '.join(missing)}")
        if state["sizes"].shape != (2,) or state["sizes"].dtype != torch.int64:
            raise ValueError("sizes are not two whole numbers")
        trunk, localisation = (
            _decode(state[key], key) if key in state else []
            for key in ("trunk.layers", "localisation.layers")
        )
        patch_size, sampled_size = map(int, state["sizes"].tolist())
        return cls(trunk, localisation, patch_size, sampled_size)

    @property
    def has_transformer(self) -> bool:
        """Whether a spatial transformer comes first."""
        return self.localisation is not None

    @property
    def is_binary(self) -> bool:
        """Whether the signs of the outputs are the descriptor."""
        return self.num_outputs == NUM_BITS

    def forward(self, patches: Tensor) -> Tensor:
        """Compute outputs N×D, not yet scaled to unit length or reduced to signs.

        Args:
            patches: N×S×S grey values on any scale, S = ``patch_size``, N at least 1.
        """
        patches = normalise_patches(patches)
        if self.localisation is not None:
            affine = self.localisation(patches).flatten(1)
            patches = transform_patches(patches, affine, self.sampled_size)
        return self.trunk(patches).flatten(1)


def _decode(rows: Tensor, key: str) -> list[Layer]:
    if rows.ndim != 2 or rows.dtype != torch.int64:
        raise ValueError(f"{key} is not a list of layers")
    return [Layer.decode(row) for row in rows[: _MAX_LAYERS + 1].tolist()]


def check_layers(
    trunk: Sequence[Layer], localisation: Sequence[Layer], patch_size: int, sampled_size: int
) -> int:
    """Return the number of outputs of layers, which must turn a patch into one descriptor.

    The arguments, and the ``ValueError``, are those of :class:`DOAP`.
    """
    if not 1 <= min(patch_size, sampled_size) <= max(patch_size, sampled_size) <= _MAX_LENGTH:
        raise ValueError(f"it takes patches of {patch_size} and {sampled_size} pixels")
    if localisation:
        shape = output_shape(localisation, (1, patch_size, patch_size))
        if shape != (6, 1, 1):
            raise ValueError(f"the localisation network gives {_times(shape)} and not 6×1×1")
    elif patch_size != sampled_size:
        raise ValueError("it has no transformer, but sampled patches of another size")
    channels, *sides = output_shape(trunk, (1, sampled_size, sampled_size))
    if sides != [1, 1]:
        raise ValueError(f"the network gives {_times((channels, *sides))} and not one descriptor")
    return channels


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
