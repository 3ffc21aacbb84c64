"""What the commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.datasets.aachen import AachenOptions
from pipelines.datasets.inloc import InLocOptions
from pipelines.run import FeatureOptions
from pipelines.sfm import SfmOptions


def test_no_two_requests_share_an_output_folder(tmp_path: Path) -> None:
    """A run removes the results that it finds in its folder."""

    def aachen(**changes: Any) -> str:
        return AachenOptions(tmp_path / "town", **changes).output_dir.as_posix()

    given = FeatureOptions(features=Path("elsewhere/feats-superpoint.h5"))
    folders = [
        aachen(),
        aachen(extraction=FeatureOptions("d2net")),
        aachen(extraction=given),
        aachen(version="v1"),
        aachen(protocol="local-features"),
        aachen(version="v1", protocol="local-features"),
    ]
    assert folders == [
        "outputs/aachen/town-sift",
        "outputs/aachen/town-d2net",
        "outputs/aachen/town-feats-superpoint",
        "outputs/aachen/town-sift-v1",
        "outputs/aachen/town-sift-local-features",
        "outputs/aachen/town-sift-v1-local-features",
    ]
    inloc = InLocOptions(tmp_path / "rooms", extraction=given).output_dir
    assert inloc == Path("outputs/inloc/rooms-feats-superpoint")
    sfm = SfmOptions(tmp_path / "scene" / "images", extraction=given).output_dir
    assert sfm == Path("outputs/sfm/scene-feats-superpoint")
