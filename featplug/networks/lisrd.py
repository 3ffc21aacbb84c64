"""LISRD's network: four dense descriptors of different invariances, and meta descriptors of each.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, sections 3
and 4.1 (the architecture); :class:`LISRDSIFT` is the variant of section 4.2 that selects between
SIFT and upright SIFT. Module names are those of the authors' checkpoints, which load strictly.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featplug.networks.netvlad import NetVLAD

HEADS = {
    "rot_var_illum_var": "illum_var_rot_var",
    "rot_invar_illum_var": "illum_var_rot_invar",
    "rot_var_illum_invar": "illum_invar_rot_var",
    "rot_invar_illum_invar": "illum_invar_rot_invar",
}
"""Heads in their order everywhere, with their names in the authors' parameters."""
DESCRIPTOR_DIM = 128
"""Dimensions of one head's descriptor."""
NUM_TILES = 3
"""Tiles of the meta descriptors along each side of an image."""
META_DIM = 1024
"""Dimensions of a meta descriptor: 8 clusters of :data:`DESCRIPTOR_DIM`."""
MIN_SIDE = 24
"""The smallest image side, in pixels, that leaves a cell of the feature map to every tile."""

_BACKBONE = {
    "1_1": (3, 64), "1_2": (64, 64), "2_1": (64, 64), "2_2": (64, 64),
    "3_1": (64, 128), "3_2": (128, 128), "4_1": (128, 256), "4_2": (256, 256),
}  # fmt: skip
"""Channels in and out of each convolution of the backbone."""


def _rectify_and_normalize(features: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """ReLU, then batch normalisation; in place where no gradient is needed."""
    features = features.relu_()
    if norm.training or torch.is_grad_enabled():
        return norm(features)
    # Another copy of the 64 channels of full resolution would be the peak of memory.
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias - mean * scale
    return torch.addcmul(shift[:, None, None], features, scale[:, None, None], out=features)


class _Backbone(nn.Module):
    """Eight convolutions, each with ReLU and then batch normalisation, to an eighth of the size."""

    def __init__(self) -> None:
        super().__init__()
        for name, (in_channels, out_channels) in _BACKBONE.items():
            self.add_module(f"_conv{name}", nn.Conv2d(in_channels, out_channels, 3, padding=1))
            self.add_module(f"_bn{name}", nn.BatchNorm2d(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Compute 256×⌊⌊⌊H/2⌋/2⌋/2⌋×⌊⌊⌊W/2⌋/2⌋/2⌋ of 3×H×W, both with a batch axis."""
        for name in _BACKBONE:
            features = getattr(self, f"_conv{name}")(features)
            features = _rectify_and_normalize(features, getattr(self, f"_bn{name}"))
            if name in ("1_2", "2_2", "3_2"):
                features = F.avg_pool2d(features, 2)
        return features


class LISRD(nn.Module):
    """Four dense descriptor maps, variant or invariant to rotation and illumination."""

    def __init__(self) -> None:
        super().__init__()
        self._backbone = _Backbone()
        for name in HEADS.values():
            self.add_module(f"conv_{name}_1", nn.Conv2d(256, 256, 3, padding=1))
            self.add_module(f"bn_{name}_1", nn.BatchNorm2d(256))
            self.add_module(f"conv_{name}_2", nn.Conv2d(256, DESCRIPTOR_DIM, 1))
        for head in HEADS:
            self.add_module(f"vlad_{head}", NetVLAD())

    def heads(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Compute the heads one after the other, so that one map is in memory at a time.

        Args:
            images: B×3×H×W RGB in [0, 1], sides of at least :data:`MIN_SIDE` pixels.

        Yields:
            For each of :data:`HEADS` in order the descriptor map B×128×h×w, not normalised, in
            channels-last memory, h = ⌊⌊⌊H/2⌋/2⌋/2⌋ and w likewise, and the meta descriptors
            B×1024×3×3 of unit length, one for each of 3×3 tiles of the map.

        Raises:
            ValueError: the images are too small for 3×3 tiles.
        """
        height, width = images.shape[-2:]
        if min(height, width) < MIN_SIDE:
            raise ValueError(
                f"LISRD needs images of at least {MIN_SIDE}×{MIN_SIDE} pixels, "
                f"and this one has {width}×{height}."
            )
        # Channels-last is the faster layout; a clone, because contiguous() leaves the strides of
        # a batch of one as they are.
        features = self._backbone(images.clone(memory_format=torch.channels_last))
        for head, name in HEADS.items():
            hidden = getattr(self, f"conv_{name}_1")(features)
            hidden = _rectify_and_normalize(hidden, getattr(self, f"bn_{name}_1"))
            descriptors = getattr(self, f"conv_{name}_2")(hidden)
            yield descriptors, _aggregate_tiles(descriptors, getattr(self, f"vlad_{head}"))

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute the four maps of :meth:`heads`, and B×4×1024×3×3 meta descriptors."""
        maps, metas = zip(*self.heads(images), strict=True)
        return list(maps), torch.stack(metas, dim=1)


def _aggregate_tiles(descriptors: Tensor, vlad: NetVLAD) -> Tensor:
    """Compute meta descriptors B×1024×3×3 of the tiles of a map B×128×h×w."""
    batch, dim, *size = descriptors.shape
    height, width = (side // NUM_TILES for side in size)
    whole = [height * NUM_TILES, width * NUM_TILES]
    if size != whole:
        descriptors = F.interpolate(descriptors, size=whole, mode="bilinear", align_corners=False)
    tiles = descriptors.reshape(batch, dim, NUM_TILES, height, NUM_TILES, width)
    tiles = tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, height * width, dim)
    return vlad(tiles).view(batch, NUM_TILES, NUM_TILES, -1).permute(0, 3, 1, 2)


class LISRDSIFT(nn.Module):
    """Meta descriptors of SIFT and upright SIFT.

    Args:
        official_reshape: read each tile's N×128 descriptors as if they were 128×N, as the released
            code does, which mixes up their dimensions.
    """

    def __init__(self, official_reshape: bool = False) -> None:
        super().__init__()
        self.official_reshape = official_reshape
        self.vlad_sift = NetVLAD()
        self.vlad_upright_sift = NetVLAD()

    def forward(self, descriptors: Tensor, tiles: Tensor) -> Tensor:
        """Compute the meta descriptors of images.

        Args:
            descriptors: B×2×N×128, SIFT and upright SIFT of N keypoints, of any length.
            tiles: B×N int64, the tile that a keypoint lies in, column + 3·row; −1 for padding.

        Returns:
            B×2×1024×3×3 of unit length; a tile without keypoints has ones.
        """
        members = tiles[:, None] == torch.arange(NUM_TILES**2, device=tiles.device)[:, None]
        if self.official_reshape:
            descriptors = _mix_up(descriptors, members)
        metas = []
        for head, vlad in enumerate((self.vlad_sift, self.vlad_upright_sift)):
            meta = vlad(descriptors[:, head], members.to(descriptors.dtype))
            metas.append(torch.where(members.any(2, keepdim=True), meta, torch.ones_like(meta)))
        return torch.stack(metas, dim=1).mT.unflatten(3, (NUM_TILES, NUM_TILES))


def _mix_up(descriptors: Tensor, members: Tensor) -> Tensor:
    """Read the N×128 descriptors of each tile, members B×9×N, as if they were 128×N."""
    mixed = descriptors.clone()
    for image, tile in members.any(2).nonzero().tolist():
        in_tile = members[image, tile]
        found = descriptors[image][:, in_tile]
        mixed[image][:, in_tile] = found.reshape(len(found), DESCRIPTOR_DIM, -1).mT
    return mixed
