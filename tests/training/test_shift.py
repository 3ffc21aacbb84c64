"""A shift makes fewer and better matches, and is the same in the weights as in the outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from featplug.checkpoints import read_metadata, read_safetensors, state_sha256
from featplug.extractors import build_extractor
from featplug.images import list_images
from featplug.registry import shipped_folder
from featplug.training.pairs import HomographyPairOptions
from featplug.training.shift import ShiftOptions, choose_shift, shift_weights

OPTIONS = ShiftOptions(
    lengths=(0, 0.5, 1), num_pairs=1, views=HomographyPairOptions(batch_size=1, size=(200, 200))
)


def test_a_shift_makes_more_of_the_matches_right(photographs: Path, tmp_path: Path) -> None:
    shipped = shipped_folder() / "doap_binary.safetensors"
    weights = tmp_path / "trained.safetensors"
    before = torch.tensor(json.loads(read_metadata(shipped)["shift"]))
    shift_weights("doap-binary", shipped, weights, -before)
    names = list_images(photographs)
    _, scores = choose_shift("doap-binary", weights, photographs, names, OPTIONS)
    assert [score.length for score in scores] == [0, 0.5, 1]
    assert scores[1].precision > scores[0].precision
    assert scores[1].recall > 0.9 * scores[0].recall


@pytest.mark.parametrize("feature", ["doap", "doap-binary", "contextdesc"])
def test_the_shift_in_the_weights_is_that_of_the_outputs(
    feature: str, photographs: Path, tmp_path: Path
) -> None:
    weights = shipped_folder() / f"{feature.replace('-', '_')}.safetensors"
    names = list_images(photographs)
    shift, scores = choose_shift(feature, weights, photographs, names, OPTIONS)
    assert [score.length for score in scores] == [0, 0.5, 1]
    assert scores[1].recall > 0.9 * scores[0].recall

    # Not none at all, which may be the best here.
    shift = shift + 0.5
    path = tmp_path / "shifted.safetensors"
    shift_weights(feature, weights, path, shift)
    state, metadata = read_safetensors(path)
    assert metadata["tensors_sha256"] == state_sha256(state)
    assert metadata["system"] == read_metadata(weights)["system"]

    image = torch.rand(1, 3, 120, 160, generator=torch.Generator().manual_seed(0))
    outputs = []
    for file in (weights, path):
        extractor = build_extractor(
            {"name": "contextdesc" if feature == "contextdesc" else "doap", "checkpoint": feature}
            | {"weights": str(file)}
        )
        collected: list[torch.Tensor] = []

        def collect(network: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            raw = network.outputs(*inputs) if hasattr(network, "outputs") else output
            collected.append(raw)  # noqa: B023

        extractor.network.register_forward_hook(collect)
        features = extractor({"image": image})
        outputs.append(torch.cat(collected))
    torch.testing.assert_close(outputs[1], outputs[0] + shift, atol=0.02, rtol=2e-3)
    if feature != "doap-binary":
        expected = F.normalize(outputs[1]).t()
        torch.testing.assert_close(features["descriptors"][0], expected)


def test_another_system_is_refused(tmp_path: Path) -> None:
    weights = shipped_folder() / "doap.safetensors"
    with pytest.raises(ValueError, match=r"has no last layer of doap that can be shifted"):
        shift_weights("doap", weights, tmp_path / "out.safetensors", torch.zeros(3))
