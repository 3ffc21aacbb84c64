"""NetVLAD as a global descriptor of images, for retrieval.

Arandjelović et al., "NetVLAD: CNN Architecture for Weakly Supervised Place Recognition", CVPR 2016.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from featplug.base import GlobalExtractor
from featplug.methods import register_global
from featplug.networks.netvlad import MIN_SIDE, VGG16NetVLAD


@register_global(
    {
        "netvlad": {
            "model": {"checkpoint": "netvlad"},
            "preprocessing": {"grayscale": False, "resize_max": 1024},
        }
    },
    paper="Arandjelović et al., CVPR 2016",
    order=1,
)
class NetVLADExtractor(GlobalExtractor):
    """VGG16 with NetVLAD, trained on Pitts30k; the default of hloc's localization, too.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        whiten: project to 4,096 whitened dimensions; 32,768 without.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "checkpoint": "netvlad",
        "weights": "auto",
        "whiten": True,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.network = self.load_network(VGG16NetVLAD)

    def describe(self, image: Tensor) -> Tensor:
        """Describe one image; see :class:`featplug.base.GlobalExtractor`."""
        if min(image.shape[-2:]) < MIN_SIDE:
            height, width = image.shape[-2:]
            raise ValueError(f"{width}×{height} pixels are too few, NetVLAD needs {MIN_SIDE}")
        return self.network(image.expand(3, -1, -1)[None], self.conf["whiten"])[0]
