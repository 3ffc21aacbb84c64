"""SIFT: the origin of its keypoints, its conventions, its normalisation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from featplug.extractors.sift import SIFT, root_sift
from featplug.io.store import FeatureReader
from featplug.methods import feature_conf
from featplug.stages.extract import extract_features
from tests.extractors.contract import ExtractorContract
from tests.scenes.pictures import textured_image


class TestSIFT(ExtractorContract):
    method = "sift"


def blob_image(x: float, y: float, sigma: float, size: tuple[int, int] = (200, 160)) -> np.ndarray:
    """A bright Gaussian blob centred on the pixel coordinates (x, y), integer = pixel centre."""
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return (30 + 200 * blob).astype(np.float32) / 255


def extract(image: np.ndarray, **conf: object) -> dict[str, np.ndarray]:
    tensor = torch.from_numpy(image)
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    features = SIFT(conf)({"image": tensor[None]})
    return {key: value[0].numpy() for key, value in features.items()}


@pytest.mark.parametrize("sigma", [1.5, 2.5, 4.0, 7.0, 12.0])
@pytest.mark.parametrize(("x", "y"), [(100.0, 80.0), (91.3, 77.6), (60.5, 60.5)])
def test_a_drawn_blob_is_found_where_it_is(x: float, y: float, sigma: float) -> None:
    """Stock OpenCV is 0.23 px off here, COLMAP's origin would be 0.5 px off."""
    features = extract(blob_image(x, y, sigma))
    distance = np.linalg.norm(features["keypoints"] - [x, y], axis=1)
    nearest = distance.argmin()
    assert distance[nearest] < 0.1
    # A blob's own scale is its sigma; the detector's samples of scale are a factor 1.26 apart.
    assert features["scales"][nearest] == pytest.approx(sigma, rel=0.25)


def test_a_resized_blob_keeps_its_place(tmp_path: Path) -> None:
    """The engine's rescaling and the detector's origin fit together, at any factor."""
    picture = (blob_image(300.0, 240.0, 9.0, (640, 480)) * 255).round().astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "blob.png")
    for side in (640, 400, 333, 256):
        conf = feature_conf("sift")
        conf["preprocessing"]["resize_max"] = side
        path = tmp_path / f"{side}.h5"
        extract_features(conf, tmp_path, feature_path=path)
        with FeatureReader(path) as reader:
            distance = np.linalg.norm(reader.keypoints("blob.png") - [300, 240], axis=1)
        assert distance.min() < 0.1 * 640 / side


def test_orientation_is_that_of_the_gradient_from_x_to_y() -> None:
    """A turned picture turns the keypoints' orientations by the same angle."""
    picture = textured_image(3, 201, 201)
    first = extract(picture.astype(np.float32) / 255)
    turned = extract(np.rot90(picture, -1).astype(np.float32).copy() / 255)  # clockwise: x to y
    expected = np.stack([200 - first["keypoints"][:, 1], first["keypoints"][:, 0]], axis=1)
    differences = []
    for place, ori, scale in zip(expected, first["oris"], first["scales"], strict=True):
        near = np.linalg.norm(turned["keypoints"] - place, axis=1) < 0.5
        near &= np.abs(turned["scales"] / scale - 1) < 0.05
        if near.any():
            turns = (turned["oris"][near] - ori - 90 + 180) % 360 - 180
            differences.append(np.abs(turns).min())
    assert len(differences) > 50
    assert np.median(differences) < 2


def test_scales_and_orientations_are_hlocs(shared: Path) -> None:
    """On hloc's own file: the same keypoints have the same scale and orientation."""
    folder = shared / "golden" / "hloc"
    name = "db/0004.jpg"
    grey = cv2.imread(str(folder / "images" / name), cv2.IMREAD_GRAYSCALE)
    ours = extract(grey.astype(np.float32) / 255)
    with FeatureReader(folder / "feats-sift.h5") as reader:
        theirs = {k: v.astype(np.float32) for k, v in reader.read(name).items()}
    theirs["keypoints"] -= 0.5  # COLMAP's origin, which hloc stores as it is (field-notes 0.4)
    scale_ratios, turns = [], []
    for place, scale, ori in zip(
        theirs["keypoints"], theirs["scales"], theirs["oris"], strict=True
    ):
        near = np.linalg.norm(ours["keypoints"] - place, axis=1) < 0.5
        near &= np.abs(np.log(ours["scales"] / scale)) < 0.2
        if near.any():
            scale_ratios.append(np.median(ours["scales"][near]) / scale)
            turns.append(np.abs((ours["oris"][near] - ori + 180) % 360 - 180).min())
    assert len(turns) > 50
    assert np.median(scale_ratios) == pytest.approx(1, abs=0.05)
    assert np.median(turns) < 5


def test_root_sift_is_the_hellinger_map() -> None:
    descriptors = np.array([[4.0, 0, 0, 0], [1, 1, 1, 1], [9, 16, 0, 0], [0, 0, 0, 0]])
    expected = [[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.6, 0.8, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(root_sift(descriptors), expected, atol=1e-7)


def test_descriptors_are_unit_vectors_and_scores_rank() -> None:
    image = textured_image(0, 320, 240).astype(np.float32) / 255
    everything = extract(image)
    assert everything["descriptors"].shape == (128, len(everything["keypoints"]))
    np.testing.assert_allclose(np.linalg.norm(everything["descriptors"], axis=0), 1, atol=1e-5)
    few = extract(image, max_keypoints=50)
    assert len(few["keypoints"]) == 50
    assert few["scores"].min() >= np.sort(everything["scores"])[-50]
    # A descriptor does not depend on which other keypoints are kept.
    index = [
        np.flatnonzero((everything["keypoints"] == place).all(1) & (everything["oris"] == ori))[0]
        for place, ori in zip(few["keypoints"], few["oris"], strict=True)
    ]
    np.testing.assert_array_equal(few["descriptors"], everything["descriptors"][:, index])


def test_detections_are_cut_by_response_before_keypoints_by_score() -> None:
    image = textured_image(0, 320, 240).astype(np.float32) / 255
    everything = extract(image)
    precise = extract(image, max_detections=60)
    responses = everything["scores"] / everything["scales"]
    assert len(precise["scores"]) == pytest.approx(60, abs=5)  # OpenCV keeps ties
    kept = np.sort(precise["scores"] / precise["scales"])
    np.testing.assert_allclose(kept, np.sort(responses)[-len(kept) :], rtol=1e-5)


def test_the_descriptor_window_is_wider_than_lowes() -> None:
    """What lies 8 sigma away changes the descriptor only if the window reaches there."""
    image = blob_image(100, 80, 4.0)
    marked = image.copy()
    marked[110:120, 96:104] += 0.3  # 30 to 40 px below, 7.5 to 10 sigma
    for window, reaches in ((1.0, False), (2.0, True)):
        pair = []
        for picture in (image, marked):
            features = extract(picture, descriptor_window=window)
            nearest = np.linalg.norm(features["keypoints"] - [100, 80], axis=1).argmin()
            pair.append(features["descriptors"][:, nearest])
        assert (np.abs(pair[0] - pair[1]).max() > 0.05) == reaches


def test_colour_is_read_as_grey_and_an_empty_image_is_fine() -> None:
    image = textured_image(1).astype(np.float32) / 255
    grey, colour = extract(image), extract(np.stack([image] * 3))
    np.testing.assert_array_equal(grey["keypoints"], colour["keypoints"])
    for shape in ((64, 64), (1, 1), (1, 300)):
        nothing = extract(np.zeros(shape, np.float32))
        assert nothing["keypoints"].shape == (0, 2)
        assert nothing["descriptors"].shape == (128, 0)
        assert nothing["oris"].shape == (0,)


def test_opencvs_own_settings_give_opencvs_own_descriptors() -> None:
    """Every row of ``detectAndCompute``, so that octaves and layers are told right from σ."""
    grey = textured_image(3, width=320, height=240)
    sift = cv2.SIFT.create(
        nfeatures=0,
        nOctaveLayers=3,
        contrastThreshold=0.04,
        edgeThreshold=10,
        sigma=1.6,
        descriptorType=cv2.CV_32F,
        enable_precise_upscale=False,
    )
    detected, expected = sift.detectAndCompute(grey, None)
    conf = feature_conf("sift-opencv")["model"]
    features = SIFT({k: v for k, v in conf.items() if k != "name"})(
        {"image": torch.from_numpy(grey[None, None] / np.float32(255))}
    )
    assert len(detected) > 100
    points = np.array([k.pt for k in detected], np.float32)
    np.testing.assert_array_equal(features["keypoints"][0], points)
    np.testing.assert_allclose(features["descriptors"][0].T, root_sift(expected), atol=1e-6)
