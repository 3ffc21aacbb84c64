"""DeDoDe: the same as kornia's, but for the origin of its pixels and the length of descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import kornia.feature
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featplug.extractors import dedode
from featplug.methods import build_extractor
from tests.extractors.contract import ExtractorContract
from tests.extractors.places import corners, found


class TinyNetwork(nn.Sequential):
    """Stands in for the networks of two VGG19, which take minutes."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(3, channels, 5, padding=2))


class TestDeDoDe(ExtractorContract):
    method = "dedode"
    options: ClassVar[dict[str, Any]] = {"max_keypoints": 50}

    @pytest.fixture(autouse=True)
    def tiny_networks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dedode, "dedode_detector_L", lambda amp_dtype: TinyNetwork(1))
        monkeypatch.setattr(dedode, "dedode_descriptor_B", lambda amp_dtype: TinyNetwork(256))

    def network(self, checkpoint: str) -> nn.Module:
        return TinyNetwork(1 if checkpoint == "dedode-detector" else 256)


@pytest.mark.slow
def test_it_finds_and_describes_what_kornia_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = kornia.feature.DeDoDe("L", "B", torch.float32).eval()
    model: dict[str, object] = {"name": "dedode", "max_keypoints": 50}
    for key, part in (("weights", "descriptor"), ("detector_weights", "detector")):
        model[key] = str(tmp_path / f"{part}.safetensors")
        save_file(getattr(reference, part).state_dict(), tmp_path / f"{part}.safetensors")
    picture = corners(75, 61)
    features = found(build_extractor(model), picture)
    keypoints, scores, descriptions = (value[0] for value in reference(picture[None], n=50))
    torch.testing.assert_close(features["keypoints"], keypoints - 0.5, atol=1e-4, rtol=0)
    torch.testing.assert_close(features["scores"], scores)
    expected = nn.functional.normalize(descriptions, dim=1).t()
    torch.testing.assert_close(features["descriptors"], expected, atol=1e-4, rtol=0)


def test_all_missing_weights_are_named_with_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path / "cache"))
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    both = "`featplug weights fetch dedode-descriptor dedode-detector`"
    with pytest.raises(FileNotFoundError, match=both):
        build_extractor({"name": "dedode"})
    (tmp_path / "dedode_detector_L_v2.pth").touch()
    with pytest.raises((FileNotFoundError, ValueError)) as raised:
        build_extractor({"name": "dedode"})
    assert both not in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"^The weights disk are .*weights fetch disk`"):
        build_extractor({"name": "disk"})
