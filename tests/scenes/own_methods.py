"""A user's own extractor and matcher, and packages of them as pip installs them."""

from __future__ import annotations

from pathlib import Path

CORNERS = """
import torch
from featplug.base import Extractor

class Corners(Extractor):
    default_conf = {"max_keypoints": 5}
    def extract(self, image):
        n = self.conf["max_keypoints"]
        return {"keypoints": torch.ones(n, 2), "scores": torch.ones(n),
                "descriptors": torch.ones(2, n)}
"""
MATCHER = """
import torch
from featplug.base import Matcher

class None_(Matcher):
    def match(self, features0, features1):
        n = features0["descriptors"].shape[1]
        return {"matches0": torch.full((n,), -1), "matching_scores0": torch.zeros(n)}
"""


def install(folder: Path, package: str, code: str, **groups: str) -> None:
    """Install a package of one module into a folder of the path, as pip does."""
    (folder / f"{package}.py").write_text(code)
    info = folder / f"{package}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(
        "".join(f"[featplug.{group}]\n{entry}\n" for group, entry in groups.items())
    )
