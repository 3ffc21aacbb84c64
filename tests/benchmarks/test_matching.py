"""Mean matching accuracy on a sequence with a known homography."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from benchmarks.matching import _matcher_without_ratio_test, main, measure, read_sequences
from featplug.metrics import homography_errors, mean_matching_accuracy
from featplug.networks.d2net import D2Net
from tests.networks.test_d2net import seeded_state
from tests.worlds import textured_image


def write_sequence(folder: Path) -> np.ndarray:
    """A picture and its view under a homography, in Oxford's layout."""
    picture = textured_image(5, 320, 240)
    homography = np.array([[0.9, 0.1, 12.0], [-0.08, 0.95, 20.0], [1e-4, 5e-5, 1.0]])
    folder.mkdir(parents=True)
    Image.fromarray(picture).save(folder / "img1.png")
    warped = cv2.warpPerspective(picture, homography, (320, 240), flags=cv2.INTER_CUBIC)
    Image.fromarray(warped).save(folder / "img2.png")
    np.savetxt(folder / "H1to2p", homography)
    return homography


def test_homography_errors_in_closed_form() -> None:
    points = np.array([[0.0, 0.0], [10.0, 20.0]])
    scale_and_shift = np.array([[2.0, 0, 3], [0, 2, 4], [0, 0, 2]])  # x -> x + 1.5, y -> y + 2
    np.testing.assert_allclose(homography_errors(points, points, scale_and_shift), [2.5, 2.5])


def test_mma_is_the_mean_over_pairs_and_counts_empty_ones() -> None:
    errors = [np.array([0.5, 1.0, 4.0, 20.0]), np.array([]), np.array([2.0])]
    expected = [(0.5 + 0 + 0) / 3, (0.5 + 0 + 1) / 3, (0.75 + 0 + 1) / 3]
    np.testing.assert_allclose(mean_matching_accuracy(errors, [1, 3, 5]), expected)


def test_a_warped_picture_is_matched_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sequence(tmp_path / "data" / "graf")
    main(tmp_path / "data", outputs=tmp_path / "out", max_keypoints=300)
    results = json.loads((tmp_path / "out" / "sift.json").read_text())
    assert results["metrics"]["mma_3"]["value"] > 0.8
    assert results["metrics"]["mean_keypoints"]["value"] <= 300
    assert results["mma_3_of_sequences"] == {"graf": results["metrics"]["mma_3"]["value"]}
    assert f"{results['metrics']['mma_3']['value']:.3f}" in capsys.readouterr().out


def test_the_wrong_homography_gives_nothing(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "graf")
    np.savetxt(tmp_path / "data" / "graf" / "H1to2p", np.diag([1.0, -1.0, 1.0]))
    assert measure(tmp_path / "data", "sift", tmp_path)["metrics"]["mma_5"]["value"] < 0.05


def test_bad_data_is_named(tmp_path: Path) -> None:
    write_sequence(tmp_path / "graf")
    (tmp_path / "graf" / "H1to3p").write_text("1 0 0 0 1 0 0 0 1")
    with pytest.raises(ValueError, match=r"H1to3p has no images img1 and img3"):
        read_sequences(tmp_path)
    (tmp_path / "graf" / "H1to3p").write_text("1 0 0 0 1")
    with pytest.raises(ValueError, match=r"H1to3p is not a 3×3 homography"):
        read_sequences(tmp_path)
    with pytest.raises(ValueError, match="has no sequences"):
        read_sequences(tmp_path / "graf")


def test_features_are_matched_by_their_own_rule_without_a_ratio_test() -> None:
    rules = {name: _matcher_without_ratio_test(name) for name in ("sift", "lisrd", "doap-binary")}
    assert rules == {"sift": "NN-mutual", "lisrd": "lisrd", "doap-binary": "NN-hamming"}


def test_weights_of_a_file(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "graf")
    file = tmp_path / "own.safetensors"
    save_file(seeded_state(D2Net()), file)
    main(
        tmp_path / "data",
        ("d2net",),
        tmp_path / "out",
        max_keypoints=200,
        weights=(("d2net", str(file)),),
    )
    results = json.loads((tmp_path / "out" / "d2net.json").read_text())
    assert [record["name"] for record in results["weights"]] == [file.name]
    with pytest.raises(ValueError, match="weights for doap, which is not among the features"):
        main(tmp_path / "data", ("sift",), tmp_path / "out", weights=(("doap", str(file)),))
