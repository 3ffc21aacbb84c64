"""ContextDesc's networks: local features of patches, matchability, visual and geometric context.

Luo et al., "ContextDesc: Local Descriptor Augmentation with Cross-Modality Context", CVPR 2019,
section 3. The local network is GeoDesc (Luo et al., ECCV 2018), which has the layers of L2-Net.
Where paper and released code differ the code is followed: its weights are of that network.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featplug.networks.caffe_resnet import NUM_CHANNELS
from featplug.networks.conv_bn import EPSILON, MOMENTUM, ConvBN
from featplug.networks.efficientnet_lite import EfficientNetLite0

PATCH_SIZE = 32
"""Pixels along a side of a patch."""
DIMENSIONS = 128
"""Dimensions of local features, of both contexts, and of the descriptor."""
INTERPOLATIONS = ("released", "inverse_distance")
"""Weights of the regional features around a keypoint, see :func:`interpolate_cells`."""

_NUM_NEIGHBOURS = 3
_DISTANCE_EPSILON = 1e-6
_CHUNK_ELEMENTS = 2**22
"""Distances to cells, or values of nearest cells, that are held at a time; bounds memory."""


def context_normalise(features: Tensor) -> Tensor:
    """Normalise channels of ...×N×C to mean 0 and variance 1 over an image's points (section 3.2).

    :data:`~.conv_bn.EPSILON` is added to the biased variance; a single point becomes 0.
    """
    centred = features - features.mean(-2, keepdim=True)
    variance = centred.square().mean(-2, keepdim=True)
    return centred * (variance + EPSILON).rsqrt()


class _PointBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of ...×N×C over all points, without gain and bias."""

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, EPSILON, MOMENTUM, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.flatten(0, -2)).view_as(features)


class _Perceptron(nn.Linear):
    """A layer without bias on ...×N×C, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, bias=False)
        self.bn = _PointBatchNorm(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(super().forward(features)), inplace=True)


class GeoDesc(nn.Module):
    """Local features of grey patches (section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = ConvBN(1, 32, 3, padding=1)
        self.conv1 = ConvBN(32, 32, 3, padding=1)
        self.conv2 = ConvBN(32, 64, 3, stride=2)
        self.conv3 = ConvBN(64, 64, 3, padding=1)
        self.conv4 = ConvBN(64, 128, 3, stride=2)
        self.conv5 = ConvBN(128, 128, 3, padding=1)
        self.conv6 = nn.Conv2d(128, DIMENSIONS, 8, bias=False)

    def feature_maps(self, patches: Tensor) -> Tensor:
        """Compute the common maps of local feature and matchability from N×32×32.

        Patches are standardised first. The result is N×128×8×8 in channels-last memory, not
        negative.
        """
        variance, mean = torch.var_mean(patches, (1, 2), correction=0, keepdim=True)
        x = (patches - mean) * (variance + EPSILON).rsqrt()
        # Channels-last, twice as fast on CPUs, can only be shown by the strides: with one channel
        # PyTorch cannot distinguish the layouts.
        x = x[..., None].permute(0, 3, 1, 2)
        for index in range(6):
            layer = getattr(self, f"conv{index}")
            if layer.stride != (1, 1):
                # TensorFlow's SAME: an even side with stride 2 is padded at its end only.
                x = F.pad(x, (0, 1, 0, 1))
            x = F.relu(layer(x), inplace=True)
        return x

    def forward(self, feature_maps: Tensor) -> Tensor:
        """Turn :meth:`feature_maps` into local features N×128, *not* of unit length."""
        return self.conv6(feature_maps).flatten(1)


class Matchability(nn.Module):
    """Predicts from a patch whether its keypoint will be matched (section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = ConvBN(128, 128, 8)
        self.conv1 = ConvBN(128, 32, 1)
        self.conv2 = ConvBN(32, 32, 1)
        self.conv3 = nn.Conv2d(32, 1, 1)
        self.fc = nn.Linear(1, 1)

    def logits(self, feature_maps: Tensor) -> Tensor:
        """Compute N raw values from N×128×8×8; the quadruplet loss (equation 3) ranks these."""
        x = feature_maps
        for layer in (self.conv0, self.conv1, self.conv2):
            x = F.relu(layer(x), inplace=True)
        return self.conv3(x).flatten()

    def bounded(self, logits: Tensor) -> Tensor:
        """Turn N raw values into matchabilities in (-1, 1)."""
        return self.fc(logits[:, None]).tanh().flatten()

    def forward(self, feature_maps: Tensor) -> Tensor:
        """Compute N matchabilities in (-1, 1) from N×128×8×8."""
        return self.bounded(self.logits(feature_maps))


class VisualContext(nn.Module):
    """Regional features, interpolated at the keypoints and fused with the local ones (3.3)."""

    def __init__(self, regional_channels: int = NUM_CHANNELS) -> None:
        super().__init__()
        self.conv1 = nn.Linear(regional_channels, 1024)
        self.bn1 = _PointBatchNorm(1024)
        self.conv2 = nn.Linear(1024, 512)
        self.bn2 = _PointBatchNorm(512)
        self.fuse = nn.Sequential(
            _Perceptron(512 + DIMENSIONS, 512), _Perceptron(512, 256), _Perceptron(256, DIMENSIONS)
        )

    def cells(self, regional: Tensor) -> Tensor:
        """Reduce regional features ...×C×h×w to ...×(h·w)×512, in their image's context."""
        x = regional.flatten(-2).transpose(-1, -2)
        x = F.relu(self.bn1(context_normalise(self.conv1(x))), inplace=True)
        return F.relu(self.bn2(context_normalise(self.conv2(x))), inplace=True)

    def forward(
        self,
        local: Tensor,
        positions: Tensor,
        regional: Tensor,
        interpolation: str = INTERPOLATIONS[0],
    ) -> Tensor:
        """Compute the visual context.

        Args:
            local: ...×N×128 from :class:`GeoDesc`.
            positions: ...×N×2 (x, y) in [-1, 1], from :func:`normalise_positions`.
            regional: ...×C×h×w.
            interpolation: see :func:`interpolate_cells`.

        Returns:
            ...×N×128, not negative.
        """
        cells = self.cells(regional)
        height, width = regional.shape[-2:]
        interpolated = interpolate_cells(cells, (height, width), positions, interpolation)
        return self.fuse(torch.cat([interpolated, local], dim=-1))


class _ContextUnit(nn.Module):
    """A residual unit with pre-activation (figure 3b)."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = _PointBatchNorm(DIMENSIONS)
        self.conv = nn.Linear(DIMENSIONS, DIMENSIONS)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.relu(self.bn(context_normalise(x)), inplace=True))


class GeometricContext(nn.Module):
    """Where the keypoints of an image lie, and how matchable they are (section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.dim_control = nn.Linear(3, DIMENSIONS)
        self.units = nn.Sequential(OrderedDict((str(i), _ContextUnit()) for i in range(1, 5)))
        self.context_trans = nn.Linear(DIMENSIONS, DIMENSIONS)

    def forward(self, matchability: Tensor, positions: Tensor) -> Tensor:
        """Compute ...×N×128 from ...×N matchabilities and ...×N×2 normalised positions."""
        x = torch.cat([matchability[..., None], positions], dim=-1)
        return self.context_trans(self.units(self.dim_control(x)))


class ContextDesc(nn.Module):
    """Local features, augmented with the context of their image.

    The weights depend on the network of the regional features. A state dict with tensors
    ``backbone.…`` includes that network, an :class:`EfficientNetLite0`; without, as in the authors'
    files, the network has a file of its own.

    Args:
        regional_channels: channels of the regional features.
        backbone: network of the regional features, always in evaluation and without gradients; None
            for a network outside.

    Raises:
        ValueError: the backbone has another number of channels.
    """

    def __init__(
        self, regional_channels: int = NUM_CHANNELS, backbone: EfficientNetLite0 | None = None
    ) -> None:
        super().__init__()
        self.local = GeoDesc()
        self.matchability = Matchability()
        self.visual_context = VisualContext(regional_channels)
        self.geometric_context = GeometricContext()
        self.backbone = backbone
        if backbone is not None:
            if backbone.num_channels != regional_channels:
                raise ValueError(
                    f"its backbone has {backbone.num_channels} channels and its visual context "
                    f"needs {regional_channels}"
                )
            backbone.requires_grad_(False).eval()

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "ContextDesc":
        """Build the network with the backbone and the regional channels of a state dict.

        Raises:
            ValueError: the state dict has no weights for regional features, or for another number
                of channels than its backbone's.
        """
        weight = state.get("visual_context.conv1.weight")
        if weight is None or weight.ndim != 2:
            raise ValueError("it has no matrix visual_context.conv1.weight.")
        has_backbone = any(key.startswith("backbone.") for key in state)
        return cls(weight.shape[1], EfficientNetLite0() if has_backbone else None)

    def train(self, mode: bool = True) -> "ContextDesc":
        """Switch all but the backbone between training and evaluation."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def describe_patches(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Compute local features N×128, not of unit length, and matchabilities N in (-1, 1).

        ``patches`` are N×32×32 grey, in any units.
        """
        feature_maps = self.local.feature_maps(patches)
        return self.local(feature_maps), self.matchability(feature_maps)

    def forward(
        self,
        local: Tensor,
        matchability: Tensor,
        positions: Tensor,
        regional: Tensor | None,
        interpolation: str = INTERPOLATIONS[0],
        moved_positions: Tensor | None = None,
    ) -> Tensor:
        """Augment the local features of *all* keypoints of an image (section 3.4).

        Context is normalised over the keypoints: a subset of them has other descriptors.

        Args:
            local: ...×N×128 from :meth:`describe_patches`.
            matchability: ...×N from the same.
            positions: ...×N×2 (x, y) from :func:`normalise_positions`.
            regional: ...×C×h×w; None leaves visual context out of the sum.
            interpolation: see :func:`interpolate_cells`.
            moved_positions: ...×N×2, perturbed positions for geometric context in training.

        Returns:
            Descriptors ...×N×128 of unit length.
        """
        # In float32 under autocast, too: distances and variances of positions need it, and the
        # cost is negligible next to the local network's.
        with torch.autocast(local.device.type, enabled=False):
            local, matchability = local.to(positions.dtype), matchability.to(positions.dtype)
            moved = positions if moved_positions is None else moved_positions
            total = local + self.geometric_context(matchability, moved)
            if regional is not None:
                regional = regional.to(positions.dtype)
                total = total + self.visual_context(local, positions, regional, interpolation)
            return F.normalize(total, dim=-1)


def normalise_positions(keypoints: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Turn pixels ...×N×2 (x, y) of an image of (width, height) into -1 to 1.

    Half a pixel is not accounted for, as in the released code.
    """
    half = keypoints.new_tensor(image_size) / 2
    return (keypoints - half) / half


def interpolate_cells(
    cells: Tensor,
    grid_size: tuple[int, int],
    positions: Tensor,
    interpolation: str = INTERPOLATIONS[0],
) -> Tensor:
    """Interpolate a map at keypoints from the three nearest of its cells.

    The outermost cells are taken to lie on the border of the image. Of cells at one distance the
    first is taken as nearer. With fewer than three cells, where the released code fails, all cells
    are used.

    Args:
        cells: ...×(h·w)×C, row by row.
        grid_size: (h, w).
        positions: ...×N×2 (x, y), normalised.
        interpolation: ``inverse_distance`` weighs cells as equation 4 says. ``released`` weighs
            them equally: the released code clamps negated distances from below, in training too,
            so that its weights expect it.

    Returns:
        ...×N×C.

    Raises:
        ValueError: no such interpolation exists.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation must be {' or '.join(INTERPOLATIONS)}, not {interpolation!r}."
        )
    height, width = grid_size
    y, x = (
        torch.linspace(-1, 1, n, dtype=positions.dtype, device=positions.device) for n in grid_size
    )
    grid = torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)
    rows = max(1, _CHUNK_ELEMENTS // max(len(grid), _NUM_NEIGHBOURS * cells.shape[-1]))
    chunks = []
    for chunk in positions.split(rows, dim=-2):
        nearest, distances = _nearest_cells(chunk, grid)
        if interpolation == "released":
            weights = torch.full_like(distances, 1 / distances.shape[-1])
        else:
            weights = F.normalize(1 / distances, p=1, dim=-1)
        index = nearest.flatten(-2)[..., None].expand(*nearest.shape[:-2], -1, cells.shape[-1])
        neighbours = cells.gather(-2, index).unflatten(-2, nearest.shape[-2:])
        chunks.append((neighbours * weights[..., None]).sum(-2))
    return torch.cat(chunks, dim=-2)


def _nearest_cells(positions: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Return indices and distances ...×N×3 of the nearest cells, the nearest one first."""
    squares = positions.square().sum(-1, keepdim=True) + grid.square().sum(-1)
    distances = (squares - 2 * positions @ grid.T + _DISTANCE_EPSILON).clamp_min_(0).sqrt_()
    nearest = []
    remaining = distances.clone()
    for _ in range(min(_NUM_NEIGHBOURS, len(grid))):
        # argmin gives the first of equal values; topk may give any.
        nearest.append(remaining.argmin(-1, keepdim=True))
        remaining.scatter_(-1, nearest[-1], torch.inf)
    index = torch.cat(nearest, dim=-1)
    return index, distances.gather(-1, index)
