"""The weights in the repository: whole, small, with a card, of use without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from featplug.io.images import read_image
from featplug.training.validation import matching_accuracy, trained_feature
from featplug.weights.checkpoints import read_metadata
from featplug.weights.loading import verify_weights
from featplug.weights.registry import RegistryEntry, read_registry, shipped_folder

SHIPPED = [entry for entry in read_registry().values() if entry.origin == "featplug"]


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.name)
def test_file_and_card(entry: RegistryEntry) -> None:
    (source,) = entry.sources
    path = shipped_folder() / source.file
    assert path.stat().st_size <= 26e6
    (check,) = verify_weights([entry.name])
    assert check.ok, check.message
    metadata = read_metadata(path)
    assert source.licence.startswith(metadata["licence"])
    card = path.with_suffix(".md").read_text("utf-8")
    for part in ("**Data.**", "python -m featplug.training", "seed 0", "**Hardware.**", "MMA at"):
        assert part in card
    assert metadata["licence"] in card
    assert "**Limits.**" in card
    assert "@" not in card, "a figure is missing"


def test_every_shipped_file_is_registered() -> None:
    files = {path.name for path in shipped_folder().glob("*.safetensors")}
    assert files == {entry.sources[0].file for entry in SHIPPED}


@pytest.mark.parametrize("feature", [entry.feature for entry in SHIPPED])
@pytest.mark.slow
def test_it_matches_photographs(
    feature: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    folder = shared / "data" / "oxford" / "leuven"
    pair = {"homography": torch.from_numpy(np.loadtxt(folder / "H1to2p"))[None]}
    for k in (0, 1):
        image = read_image(next(folder.glob(f"img{k + 1}.*")))[:400, :500]
        pair[f"image{k}"] = torch.tensor(image).permute(2, 0, 1)[None] / 255
    trained = trained_feature(feature, Path("featplug"), max_keypoints=300)
    accuracy = matching_accuracy(trained, [pair])
    # Weights drawn at random reach less than a third of this.
    assert accuracy["mma_5"] > 0.6
    assert accuracy["matches"] > 60
