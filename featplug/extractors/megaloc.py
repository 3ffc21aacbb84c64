"""MegaLoc as a global descriptor of images, for retrieval, from its authors' repository.

Berton and Masone, "MegaLoc: One Retrieval to Place Them All", CVPR Workshops 2025.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import GlobalExtractor
from featplug.methods import register_global
from featplug.weights.checkpoints import state_sha256
from featplug.weights.registry import WeightsRecord

logger = logging.getLogger(__name__)

REPOSITORY = "gmberton/MegaLoc"
REVISION = "1af071c68fc3ab6c6018c5c868391763516e50f7"
"""Commit whose code is run; a later one needs another :attr:`MegaLocExtractor.revision`."""
SMALLEST_SIDE = 14
"""Pixels of a patch of its vision transformer."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LOAD = (
    f"python -c \"import torch; torch.hub.load('{REPOSITORY}:{REVISION}', 'get_trained_model', "
    'trust_repo=True, skip_validation=True)"'
)


@register_global(
    {"megaloc": {"preprocessing": {"grayscale": False, "resize_max": 1024}}},
    paper="Berton and Masone, CVPR Workshops 2025",
    order=2,
)
class MegaLocExtractor(GlobalExtractor):
    """DINOv2 with optimal transport, 8,448 dimensions; code and weights are MIT-licensed.

    The network is the authors' own code, which ``torch.hub`` downloads at a fixed commit, and which
    then downloads its weights from the Hugging Face Hub. It needs torchvision and huggingface-hub.
    Code of others runs only where ``torch.hub`` has been told to trust it, or with ``trust_repo``.

    Conf:
        trust_repo: run the code of the repository, and remember that it is trusted.
    """

    default_conf: ClassVar[dict[str, Any]] = {"trust_repo": False}

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.require(self.conf)
        logger.info("megaloc: running code of https://github.com/%s/tree/%s", REPOSITORY, REVISION)
        try:
            self.network = torch.hub.load(
                f"{REPOSITORY}:{REVISION}",
                "get_trained_model",
                trust_repo=True,
                skip_validation=True,  # of the branch; a commit cannot be another
                verbose=False,
            ).eval()
        except (ImportError, OSError, RuntimeError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise FileNotFoundError(
                f"megaloc cannot be loaded ({reason}); with network, and with `pip install "
                f"torchvision huggingface-hub`, run `{_LOAD}`."
            ) from error
        state = {key: value.cpu() for key, value in self.network.state_dict().items()}
        folder = Path(torch.hub.get_dir()) / f"{REPOSITORY.replace('/', '_')}_{REVISION}"
        self.weights_records = (WeightsRecord("megaloc", "official", folder, state_sha256(state)),)

    @classmethod
    def require(cls, model: Mapping[str, Any]) -> None:
        """Raise ValueError if nobody has agreed to run the repository's code."""
        if not (model.get("trust_repo") or _is_trusted()):
            raise ValueError(
                f"megaloc runs code of https://github.com/{REPOSITORY} (MIT), which needs consent; "
                f"set its option trust_repo=true, or run `{_LOAD}`."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Return no options: consent does not change the output."""
        return {}

    def describe(self, image: Tensor) -> Tensor:
        """Describe one image; see :class:`featplug.base.GlobalExtractor`."""
        if min(image.shape[-2:]) < SMALLEST_SIDE:
            height, width = image.shape[-2:]
            raise ValueError(f"{width}×{height} pixels are too few, MegaLoc needs {SMALLEST_SIDE}")
        mean, std = (image.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        return self.network((image.expand(3, -1, -1) - mean)[None] / std)[0].float()


def _is_trusted() -> bool:
    """Return whether the user has told ``torch.hub`` to trust the repository."""
    trusted = Path(torch.hub.get_dir()) / "trusted_list"
    name = REPOSITORY.replace("/", "_")
    return trusted.is_file() and name in trusted.read_text("utf-8").split()
