"""Tuning of trained descriptors' last layers for mutual nearest neighbours of whole images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from featplug.base import Extractor
from featplug.extractors.doap import DOAPExtractor
from featplug.io.images import list_images
from featplug.io.results import data_fingerprint
from featplug.methods import build_extractor
from featplug.training.data.homographies import warp_points
from featplug.training.data.photographs import Photographs, split_photographs
from featplug.training.data.view_pairs import (
    VALIDATION_PAIRS,
    HomographyPairOptions,
    HomographyPairs,
)
from featplug.training.losses.mutual import mutual_loss
from featplug.training.task import Task
from featplug.training.validation import matching_accuracy, trained_confs

TunableFeature = Literal["doap", "doap-binary", "contextdesc", "mtldesc"]

HEADS: dict[TunableFeature, tuple[str, ...]] = {
    "doap": ("trunk.conv7", "trunk.bn7"),
    "doap-binary": ("trunk.conv7", "trunk.bn7"),
    "contextdesc": ("local.conv6", "geometric_context.context_trans", "visual_context.fuse"),
    "mtldesc": ("conv_des", "conv_des_1", "conv_des_2", "conv_des_3", "conv_des_4", "scalemap"),
}
"""The modules of each feature's network that are tuned."""

_VIEWS = replace(VALIDATION_PAIRS, batch_size=2)
_FEWEST = 8
"""Keypoints of a view without which a pair is left out."""


@dataclass(frozen=True)
class TuneOptions:
    """What is tuned, on what, and how."""

    feature: TunableFeature
    start: Path
    """Trained weights of it."""
    photographs: Path
    """Folder; those held out are validated on."""
    views: HomographyPairOptions = _VIEWS
    max_keypoints: int = 1000
    """Of a view, the strongest."""
    threshold: float = 3.0
    """Greatest error of a right match, pixels."""
    temperature: float = 0.08
    """Of the softened nearest neighbours, in standard deviations of all similarities."""
    recall_weight: float = 0.0
    """Of recall beside precision, in the loss."""
    gain: float = 2.0
    """Factor within the tanh that stands for the signs of binary descriptors."""
    learning_rate: float = 1e-4


class _Described(nn.Module):
    """An extractor as it is used, but for the gradient of its descriptors.

    Args:
        extractor: of a feature that can be tuned.
        head: modules of its network; nothing else changes, statistics neither.
        gain: see :class:`TuneOptions`.
    """

    def __init__(self, extractor: Extractor, head: Sequence[nn.Module], gain: float) -> None:
        super().__init__()
        self.extractor, self.gain = extractor, gain
        extractor.requires_grad_(False)
        for module in head:
            module.requires_grad_(True)

    def train(self, mode: bool = True) -> _Described:
        return super().train(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Extract keypoints N×2 and descriptors N×D from an image C×H×W in [0, 1]."""
        if isinstance(self.extractor, DOAPExtractor) and self.extractor.network.is_binary:
            found = self.extractor.detect(image)
            outputs = self.extractor.outputs(image, found)
            return found["keypoints"], torch.tanh(self.gain * outputs)
        features = self.extractor.extract(image)
        return features["keypoints"], features["descriptors"].t().float()


class TuneTask(Task):
    """The last layers of a trained network, by the precision of mutual nearest neighbours.

    None of the papers does this. The network stays what it is; its last layers learn on pairs of
    views, from all keypoints that the extractor finds in them, to leave those without counterpart
    without match. Everything before them is kept, and with it what the papers' losses taught.

    Args:
        options: see there.
        seed: of the data.
        device: for validation.
        validation_pairs: of views of held-out photographs that are matched.

    Raises:
        FileNotFoundError: the weights are not there.
        ValueError: the feature cannot be tuned, or the weights do not fit.
    """

    network: _Described
    data: HomographyPairs
    score = "mma_3"

    def __init__(
        self,
        options: TuneOptions,
        seed: int,
        device: torch.device,
        validation_pairs: int = 12,
    ) -> None:
        if options.feature not in HEADS:
            raise ValueError(f"{options.feature} cannot be tuned; what can is {', '.join(HEADS)}.")
        self.options, self.device = options, device
        self._steps = range(validation_pairs)
        model, _ = trained_confs(options.feature, options.start, options.max_keypoints)
        extractor = build_extractor(model)
        self._start_sha256 = extractor.weights_records[0].sha256
        self._tuned = cast(nn.Module, extractor.network)
        self.network = _Described(extractor, _head(options, self._tuned), options.gain)
        found = list_images(options.photographs)
        self._photographs_id = data_fingerprint(options.photographs, found)
        names, held_out = split_photographs(found)
        photographs = Photographs(options.photographs, names)
        self.data = HomographyPairs(photographs, options.views, seed, rendered=False)
        single = replace(options.views, batch_size=1)
        self._held_out = HomographyPairs(Photographs(options.photographs, held_out), single)

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        tuned = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.Adam(tuned, lr=self.options.learning_rate)

    def losses(
        self,
        forward: Callable[..., tuple[Tensor, Tensor]],
        batch: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Mean of the loss over pairs, and over the rules by which the feature is matched."""
        with torch.no_grad():
            pairs = self.data.render(batch)
        terms = []
        for image0, image1, homography in zip(
            pairs["image0"], pairs["image1"], pairs["homography"], strict=True
        ):
            (keypoints0, descriptors0), (keypoints1, descriptors1) = (
                forward(image0),
                forward(image1),
            )
            if min(len(keypoints0), len(keypoints1)) < _FEWEST:
                continue
            warped = warp_points(keypoints0[None], homography[None])[0]
            is_right = torch.cdist(warped, keypoints1) <= self.options.threshold
            terms += [
                mutual_loss(
                    similarities,
                    is_right,
                    self.options.temperature,
                    self.options.recall_weight,
                )
                for similarities in self._similarities(descriptors0, descriptors1)
            ]
        if not terms:  # of photographs without keypoints
            tuned = [p for p in self.network.parameters() if p.requires_grad]
            terms.append(torch.stack([0 * p.sum() for p in tuned]).sum())
        return {"loss": torch.stack(terms).mean()}

    def _similarities(self, descriptors0: Tensor, descriptors1: Tensor) -> list[Tensor]:
        """As matchers order them: by products, MTLDesc's by distances as well."""
        products = descriptors0 @ descriptors1.t()
        if self.options.feature != "mtldesc":
            return [products]
        squares0, squares1 = (d.square().sum(1) for d in (descriptors0, descriptors1))
        return [products, 2 * products - squares0[:, None] - squares1]

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure matching on held-out photographs."""
        model, matcher = trained_confs(self.options.feature, weights, self.options.max_keypoints)
        return matching_accuracy(model, matcher, self._held_out, self._steps, device=self.device)

    def weights(self) -> dict[str, Tensor]:
        """Give the state dict of the feature's network."""
        return self._tuned.state_dict()

    def config(self) -> dict[str, Any]:
        """List the options, and tell the photographs and the weights that are tuned."""
        return {
            "system": self.options.feature,
            **asdict(self.options),
            "photographs_id": self._photographs_id,
            "start_sha256": self._start_sha256,
        }


def _head(options: TuneOptions, network: nn.Module) -> list[nn.Module]:
    modules = dict(network.named_modules())
    missing = [name for name in HEADS[options.feature] if name not in modules]
    if missing:  # DOAP's files list their own layers
        raise ValueError(
            f"The network in {options.start} has no {' and no '.join(missing)}, which would be "
            f"tuned; give weights of {options.feature} that were trained here."
        )
    return [modules[name] for name in HEADS[options.feature]]
