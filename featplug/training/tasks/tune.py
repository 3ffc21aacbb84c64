"""Tuning of trained descriptors' last layers for mutual nearest neighbours of whole images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from featplug.base import Extractor
from featplug.extractors.doap import DOAPExtractor
from featplug.training.data.homographies import warp_points
from featplug.training.data.view_pairs import (
    VALIDATION_PAIRS,
    HomographyPairOptions,
    HomographyPairs,
)
from featplug.training.losses.mutual import mutual_loss
from featplug.training.task import Batch, Forward, Losses, PhotographTask, TrainingOptions
from featplug.training.validation import trained_feature

TunableFeature = Literal["doap", "doap-binary", "contextdesc", "mtldesc"]

HEADS: dict[TunableFeature, tuple[str, ...]] = {
    "doap": ("trunk.conv7", "trunk.bn7"),
    "doap-binary": ("trunk.conv7", "trunk.bn7"),
    "contextdesc": ("local.conv6", "geometric_context.context_trans", "visual_context.fuse"),
    "mtldesc": ("conv_des", "conv_des_1", "conv_des_2", "conv_des_3", "conv_des_4", "scalemap"),
}
"""Modules of each feature's network that are tuned."""

_VIEWS = replace(VALIDATION_PAIRS, batch_size=2)
_MIN_KEYPOINTS = 8
"""Number of keypoints that both views of a pair need to count."""


@dataclass(frozen=True, kw_only=True)
class TuneOptions(TrainingOptions):
    """Tune trained descriptors so that keypoints without counterpart find no match."""

    feature: TunableFeature
    """Name of the feature."""
    start: Path
    """Trained weights of the feature."""
    max_keypoints: int = 1000
    """Number of keypoints of a view, the strongest."""
    threshold: float = 3.0
    """Largest error of a correct match in pixels."""
    temperature: float = 0.08
    """Temperature of the softened nearest neighbours, in standard deviations of similarities."""
    recall_weight: float = 0.0
    """Weight of recall in the loss, in addition to precision."""
    gain: float = 2.0
    """Factor inside the tanh that replaces the signs of binary descriptors."""
    learning_rate: float = 1e-4
    views: HomographyPairOptions = _VIEWS


class _Described(nn.Module):
    """An extractor as it is used, with gradients of its descriptors.

    Only the modules of the head are trained; all others are fixed, statistics included. The gain is
    that of :class:`TuneOptions`.
    """

    def __init__(self, extractor: Extractor, head: Sequence[nn.Module], gain: float) -> None:
        super().__init__()
        self.extractor, self.gain = extractor, gain
        extractor.requires_grad_(False)
        for module in head:
            module.requires_grad_(True)

    def train(self, mode: bool = True) -> "_Described":
        return super().train(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Extract keypoints N×2 and descriptors N×D from an image C×H×W in [0, 1]."""
        if isinstance(self.extractor, DOAPExtractor) and self.extractor.network.is_binary:
            detected = self.extractor.detect(image)
            outputs = self.extractor.outputs(image, detected)
            return detected["keypoints"], torch.tanh(self.gain * outputs)
        features = self.extractor.extract(image)
        return features["keypoints"], features["descriptors"].t().float()


class TuneTask(PhotographTask[TuneOptions]):
    """The last layers of a trained network, by the precision of mutual nearest neighbours.

    None of the papers does this. The last layers learn from all keypoints that the extractor
    detects in pairs of views to leave those without counterpart unmatched. All layers before them
    stay as the papers' losses trained them.
    """

    network: _Described
    data: HomographyPairs
    channels_last = False

    def __init__(self, options: TuneOptions) -> None:
        if options.feature not in HEADS:
            raise ValueError(f"{options.feature} cannot be tuned, only {', '.join(HEADS)}.")
        super().__init__(options)

    @property
    def system(self) -> str:
        """The name of the feature."""
        return self.options.feature

    @property
    def validation_views(self) -> HomographyPairOptions:
        """Single pairs of the views that are tuned on."""
        return replace(self.options.views, batch_size=1)

    def _build_network(self) -> _Described:
        options = self.options
        extractor = trained_feature(
            options.feature, options.start, max_keypoints=options.max_keypoints
        ).extractor
        self.inputs["start"] = extractor.weights_records[0].sha256
        self._tuned = cast(nn.Module, extractor.network)
        modules = dict(self._tuned.named_modules())
        missing = [name for name in HEADS[options.feature] if name not in modules]
        if missing:  # DOAP's files list their own layers
            raise ValueError(
                f"The network in {options.start} has no {' and no '.join(missing)} to tune; give "
                f"weights of {options.feature} that were trained here."
            )
        head = [modules[name] for name in HEADS[options.feature]]
        return _Described(extractor, head, options.gain)

    def _build_data(self) -> HomographyPairs:
        options = self.options
        return HomographyPairs(self.photographs, options.views, options.seed, rendered=False)

    def losses(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Losses:
        """Average the loss over pairs, and over the rules by which the feature is matched."""
        options = self.options
        with torch.no_grad():
            pairs = self.data.render(batch)
        terms = []
        for image0, image1, homography in zip(
            pairs["image0"], pairs["image1"], pairs["homography"], strict=True
        ):
            (keypoints0, descriptors0), (keypoints1, descriptors1) = map(forward, (image0, image1))
            if min(len(keypoints0), len(keypoints1)) < _MIN_KEYPOINTS:
                continue
            warped = warp_points(keypoints0[None], homography[None])[0]
            is_right = torch.cdist(warped, keypoints1) <= options.threshold
            terms += [
                mutual_loss(similarities, is_right, options.temperature, options.recall_weight)
                for similarities in self._similarities(descriptors0, descriptors1)
            ]
        if not terms:  # photographs without keypoints
            terms.append(torch.stack([0 * p.sum() for p in self.trained_parameters()]).sum())
        return {"loss": torch.stack(terms).mean()}

    def _similarities(self, descriptors0: Tensor, descriptors1: Tensor) -> list[Tensor]:
        """Compute similarities as matchers order them: products, MTLDesc's distances as well."""
        products = descriptors0 @ descriptors1.t()
        if self.options.feature != "mtldesc":
            return [products]
        squares0, squares1 = (d.square().sum(1) for d in (descriptors0, descriptors1))
        return [products, 2 * products - squares0[:, None] - squares1]

    def validate(self, weights: Path) -> dict[str, float]:
        """Measure matching on held-out photographs."""
        return self.match_held_out(weights, max_keypoints=self.options.max_keypoints)

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict of the feature's network."""
        return self._tuned.state_dict()
