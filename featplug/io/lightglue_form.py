"""The features of an image as LightGlue takes them: transposed, in a batch, angles in radians."""

from collections.abc import Mapping

import torch
from torch import Tensor


def lightglue_form(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return one image's features in LightGlue's form, with a batch axis of 1.

    Args:
        arrays: ``keypoints`` N×2, ``descriptors`` D×N and ``image_size`` (width, height), and where
            the method has them N ``scores``, ``scales`` (σ in pixels) and ``oris`` (degrees), and
            ``lafs`` N×2×3.

    Returns:
        ``keypoints`` 1×N×2, ``descriptors`` 1×N×D, ``image_size`` 1×2, 1×N ``keypoint_scores``,
        ``scales`` (σ in pixels) and ``oris`` (radians from -π to π), and ``lafs`` 1×N×2×3.
    """
    form = {
        "keypoints": arrays["keypoints"],
        "descriptors": arrays["descriptors"].T,
        "image_size": arrays["image_size"],
    }
    names = {"scores": "keypoint_scores", "scales": "scales", "lafs": "lafs"}
    form |= {name: arrays[key] for key, name in names.items() if key in arrays}
    if "oris" in arrays:
        # The network tells an angle from the same one and a whole turn.
        form["oris"] = torch.deg2rad(180 - torch.remainder(180 - arrays["oris"], 360))
    return {key: value.float()[None] for key, value in form.items()}
