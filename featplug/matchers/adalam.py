"""AdaLAM: nearest neighbours that agree with a local affine map around some seed.

Cavalli et al., "AdaLAM: Revisiting Handcrafted Outlier Detection", ECCV 2020, as kornia has it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.methods import register_matcher


@register_matcher({"adalam": {}}, order=3)
class AdaLAM(Matcher):
    """Nearest neighbours, filtered by AdaLAM with the authors' options (section 4 of the paper).

    Scales and orientations are compared where the feature has them. Where no seed survives, as with
    a few keypoints, the neighbours that pass a ratio test are the matches.

    Conf:
        area_ratio: area of the image over that of a seed's circle.
        search_expansion: radius in which a seed collects matches, over that of its circle.
        ransac_iters: samples of each seed.
        min_inliers: fewest inliers of a seed.
        min_confidence: lowest ratio of inliers to those that chance gives.
        orientation_difference_threshold: largest difference in degrees to a seed's turn; None: no
            test.
        scale_rate_threshold: largest ratio to a seed's change of scale; None: no test.
        refit: fit the affine map to all inliers of the best sample.
        force_seed_mnn: only mutual nearest neighbours are seeds.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "area_ratio": 100,
        "search_expansion": 4,
        "ransac_iters": 128,
        "min_inliers": 6,
        "min_confidence": 200,
        "orientation_difference_threshold": 30,
        "scale_rate_threshold": 1.5,
        "refit": True,
        "force_seed_mnn": True,
    }
    positive = ("area_ratio", "search_expansion", "ransac_iters", "min_inliers", "min_confidence")
    required_keys = ("descriptors", "keypoints", "image_size")
    optional_keys = ("scales", "oris")

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair; see :class:`featplug.base.Matcher`.

        Scores are 1 minus the inverse of the confidence. The memory grows with N0·N1 and N0².

        Raises:
            ValueError: the descriptors of the two images differ in length.
        """
        from kornia.feature.adalam import AdalamFilter, get_adalam_default_config  # slow

        descriptors0, descriptors1 = features0["descriptors"].T, features1["descriptors"].T
        matches = torch.full((len(descriptors0),), -1, device=descriptors0.device)
        scores = torch.zeros(len(descriptors0), device=descriptors0.device)
        if min(len(descriptors0), len(descriptors1)) < 2:  # no ratio to a second neighbour
            return {"matches0": matches, "matching_scores0": scores}
        if descriptors0.shape[1] != descriptors1.shape[1]:
            raise ValueError(
                f"The descriptors of the two images have {descriptors0.shape[1]} and "
                f"{descriptors1.shape[1]} dimensions; match features of one method."
            )
        config: Any = {**get_adalam_default_config(), **self.conf, "device": descriptors0.device}
        frames: dict[str, Tensor | None] = {}
        tests = {"scales": "scale_rate_threshold", "oris": "orientation_difference_threshold"}
        for key, test in tests.items():
            if key not in features0 or key not in features1:
                config[test] = None
            for i, features in enumerate((features0, features1), 1):
                frames[f"{key[0]}{i}"] = None if config[test] is None else features[key]
        pairs, inverse_confidence = AdalamFilter(config).match_and_filter(
            features0["keypoints"],
            features1["keypoints"],
            descriptors0,
            descriptors1,
            features0["image_size"].tolist(),
            features1["image_size"].tolist(),
            **frames,
            return_dist=True,
        )
        matches[pairs[:, 0]] = pairs[:, 1]
        scores[pairs[:, 0]] = (1 - inverse_confidence[:, 0]).clamp(0, 1)
        return {"matches0": matches, "matching_scores0": scores}
