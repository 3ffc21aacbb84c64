"""D2-Net's dense feature network: VGG16 up to conv4_3.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, section 4.3 and supplement, tables 3 (training architecture) and 4 (test architecture).
Module names are those of the authors' checkpoints, which load strictly.
"""

import torch
from torch import Tensor, nn

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
"""Mean of ImageNet in grey values 0 to 255, in the channel order of the Caffe models."""
CELL_SIZE = 4
"""Pixels from one cell of the feature map to the next."""
TRAINING_CELL_SIZE = 8
"""The same in the training architecture."""
CELL_CENTRE = 3.5
"""Centre of cell 0 in pixels of the image, in both architectures."""
NUM_CHANNELS = 512
"""Channels of the feature map, and dimensions of a descriptor."""
MIN_SIDE = 8
"""The smallest image side, in pixels, that leaves a cell on the feature map."""


def normalize_caffe(images: Tensor) -> Tensor:
    """Turn ...×3×H×W RGB in [0, 1] into BGR, 0 to 255 minus :data:`CAFFE_MEAN_BGR`."""
    mean = images.new_tensor(CAFFE_MEAN_BGR)[:, None, None]
    return images.flip(-3).mul_(255).sub_(mean)


def _conv(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)


class D2Net(nn.Module):
    """Dense features that are descriptors and detector responses at once.

    Args:
        use_relu: rectify conv4_3. The paper does so for the fine-tuned weights and not for the
            off-the-shelf ImageNet weights (supplement, section B).
        cell_size: :data:`CELL_SIZE`, or :data:`TRAINING_CELL_SIZE` for plain VGG16: the third
            pooling is one of maxima that halves the map, and no convolution is dilated.
    """

    def __init__(self, use_relu: bool = True, cell_size: int = CELL_SIZE) -> None:
        super().__init__()
        self.use_relu, self.cell_size = use_relu, cell_size
        is_dense = cell_size == CELL_SIZE
        dilation = 2 if is_dense else 1
        layers: list[nn.Module] = [
            _conv(3, 64), nn.ReLU(inplace=True),
            _conv(64, 64), nn.ReLU(inplace=True),
            nn.MaxPool2d(2, stride=2),
            _conv(64, 128), nn.ReLU(inplace=True),
            _conv(128, 128), nn.ReLU(inplace=True),
            nn.MaxPool2d(2, stride=2),
            _conv(128, 256), nn.ReLU(inplace=True),
            _conv(256, 256), nn.ReLU(inplace=True),
            _conv(256, 256), nn.ReLU(inplace=True),
            # Without padding, so the map loses a row and a column and all cell centres move by
            # half a cell; see the extractor's coordinates.
            nn.AvgPool2d(2, stride=1) if is_dense else nn.MaxPool2d(2, stride=2),
            _conv(256, NUM_CHANNELS, dilation), nn.ReLU(inplace=True),
            _conv(NUM_CHANNELS, NUM_CHANNELS, dilation), nn.ReLU(inplace=True),
            _conv(NUM_CHANNELS, NUM_CHANNELS, dilation),
        ]  # fmt: skip
        self.dense_feature_extraction = nn.ModuleDict({"model": nn.Sequential(*layers)})

    def forward(self, images: Tensor) -> Tensor:
        """Compute the dense feature map.

        Args:
            images: B×3×H×W, normalised by :func:`normalize_caffe`, sides of at least
                :data:`MIN_SIDE` pixels.

        Returns:
            B×512×h×w in channels-last memory, h = ⌊H/4⌋ − 1 and w = ⌊W/4⌋ − 1, or ⌊H/8⌋ and
            ⌊W/8⌋ in the training architecture. The centre of cell (i, j) lies at row
            cell_size·i + 3.5 and column cell_size·j + 3.5 of the image.
        """
        # Channels-last is the faster layout on CPUs and on tensor cores. A clone, because
        # contiguous() leaves the strides of a batch of one as they are and the convolutions,
        # which go by the strides, may then choose the other layout.
        images = images.clone(memory_format=torch.channels_last)
        features = self.dense_feature_extraction["model"](images)
        return features.relu_() if self.use_relu else features
