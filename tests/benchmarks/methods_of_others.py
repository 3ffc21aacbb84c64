"""Methods that tests write into a file: a feature, a matcher of keypoints, a matcher of images."""

from __future__ import annotations

from pathlib import Path

OWN_METHODS = """
import cv2
import numpy as np
import torch
from featplug.base import Extractor, Matcher, PairMatcher


class Grid(Extractor):
    default_conf = {"max_keypoints": 400}

    def extract(self, image):
        grey = image.mean(0)
        grey = torch.nn.functional.pad(grey[None, None], (4, 4, 4, 4), mode="replicate")[0, 0]
        y, x = torch.meshgrid(
            torch.arange(2, image.shape[1] - 2, 6), torch.arange(2, image.shape[2] - 2, 6),
            indexing="ij",
        )
        x, y = x.flatten(), y.flatten()
        offsets = torch.arange(9)
        patches = grey[y[:, None, None] + offsets[:, None], x[:, None, None] + offsets].flatten(1)
        patches = patches - patches.mean(1, keepdim=True)
        scores = patches.norm(dim=1)
        kept = scores.argsort(descending=True, stable=True)[: self.conf["max_keypoints"]]
        return {
            "keypoints": torch.stack([x, y], 1)[kept].float(),
            "scores": scores[kept],
            "descriptors": torch.nn.functional.normalize(patches[kept]).T.contiguous(),
        }


class ByPlace(Matcher):
    \"\"\"Reads keypoints N×2 and the image's size, as LightGlue does.\"\"\"

    required_keys = ("descriptors", "keypoints", "image_size")

    def match(self, features0, features1):
        sides = [f["keypoints"] / f["image_size"] for f in (features0, features1)]
        for side, features in zip(sides, (features0, features1)):
            assert len(side) == features["descriptors"].shape[1]
        products = features0["descriptors"].T @ features1["descriptors"]
        matches = torch.full((len(sides[0]),), -1)
        scores = torch.zeros(len(sides[0]))
        if min(map(len, sides)):
            similar = products - torch.cdist(*sides)
            best, back = similar.argmax(1), similar.argmax(0)
            mutual = back[best] == torch.arange(len(best))
            matches[mutual] = best[mutual]
            scores[mutual] = products[mutual, best[mutual]].clamp(0, 1)
        return {"matches0": matches, "matching_scores0": scores}


class Still(PairMatcher):
    \"\"\"Every tenth pixel is where it was.\"\"\"

    def match_images(self, image0, image1):
        height, width = (min(a, b) for a, b in zip(image0.shape[1:], image1.shape[1:]))
        y, x = torch.meshgrid(
            torch.arange(0, height, 10), torch.arange(0, width, 10), indexing="ij"
        )
        points = torch.stack([x.flatten(), y.flatten()], 1).float()
        scores = torch.linspace(1, 0, len(points))
        return {"keypoints0": points, "keypoints1": points.clone(), "scores": scores}


class Corners(PairMatcher):
    \"\"\"OpenCV's SIFT, matched where nobody sees its keypoints.\"\"\"

    def match_images(self, image0, image1):
        found = []
        for image in (image0, image1):
            grey = (255 * image.mean(0)).round().byte().numpy()
            found.append(cv2.SIFT_create(500).detectAndCompute(grey, None))
        (points0, first), (points1, second) = found
        matches = cv2.BFMatcher(crossCheck=True).match(first, second)
        xy = np.array(
            [[*points0[m.queryIdx].pt, *points1[m.trainIdx].pt] for m in matches], np.float32
        ).reshape(-1, 4)
        scores = torch.tensor([1 / (1 + m.distance) for m in matches])
        points = torch.from_numpy(xy)
        return {
            "keypoints0": points[:, :2].contiguous(),
            "keypoints1": points[:, 2:].contiguous(),
            "scores": scores,
        }
"""


def write_own_methods(folder: Path) -> Path:
    """Write ``Grid``, ``ByPlace``, ``Still`` and ``Corners`` into a file, and return its path."""
    file = folder / "own_methods.py"
    file.write_text(OWN_METHODS)
    return file
