"""What holds for every conf: few keypoints, small and grey images, half precision, storage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from featplug.base import Extractor
from featplug.methods import build_extractor, build_matcher, feature_conf, features, matcher_conf
from featplug.networks.caffe_resnet import CaffeResNet50
from featplug.networks.contextdesc import ContextDesc
from featplug.networks.d2net import D2Net
from featplug.networks.l2net import DOAP, Layer, l2_net
from featplug.networks.lisrd import LISRD, LISRDSIFT
from featplug.networks.mtldesc import MTLDesc
from tests.scenes.pictures import textured_image

LEARNT = [name for name in features if not name.startswith("sift")]


def _networks() -> dict[str, nn.Module]:
    localisation = [Layer("conv", (1, 6), (42, 42), bias=True)]
    torch.manual_seed(0)
    return {
        "d2net": D2Net(),
        "d2net-ots": D2Net(),
        "mtldesc": MTLDesc(),
        "lisrd": LISRD(),
        "lisrd-sift": LISRDSIFT(),
        "contextdesc": ContextDesc(),
        "contextdesc-upright": ContextDesc(),
        "contextdesc-regional": CaffeResNet50(),
        "doap": DOAP(),
        "doap-binary": DOAP(l2_net(256)),
        "doap-st": DOAP(l2_net(), localisation, 42),
        "doap-st-binary": DOAP(l2_net(256), localisation, 42),
    }


@pytest.fixture(scope="session")
def drawn_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A file of each network's first weights, by the feature key of the registry."""
    folder = tmp_path_factory.mktemp("drawn")
    for name, network in _networks().items():
        save_file(network.state_dict(), folder / f"{name}.safetensors")
    return {path.stem: str(path) for path in folder.iterdir()}


def build(name: str, weights: dict[str, str], **options: Any) -> Extractor:
    model = feature_conf(name)["model"]
    for key in [key for key in model if key.endswith("checkpoint")]:
        model[key.replace("checkpoint", "weights")] = weights[model[key]]
    if model["name"] == "mtldesc":
        model["detection_threshold"] = 0.0
    return build_extractor({**model, **options})


def image(width: int = 96, height: int = 80) -> Tensor:
    grey = textured_image(1, width=width, height=height)
    return torch.from_numpy(np.stack([grey, grey[::-1], grey[:, ::-1]]) / np.float32(255))


@pytest.mark.parametrize("name", LEARNT)
def test_few_keypoints_go_through_extractor_and_matcher(
    name: str, drawn_weights: dict[str, str]
) -> None:
    matcher = build_matcher(matcher_conf(feature_conf(name)["matcher"])["model"])
    found = []
    for count in (0, 1, 2):
        options = {"max_keypoints": count} if count else {}
        extractor = build(name, drawn_weights, **options)
        given = image() if count else torch.full((3, 80, 96), 0.5)
        if name.startswith(("d2net", "mtldesc")) and not count:
            extractor.conf["max_keypoints"] = 0
        predicted = extractor({"image": given[None]})
        assert len(predicted["keypoints"][0]) == count
        found.append({key: value[0] for key, value in predicted.items()})
    for one in found:
        for other in found:
            data = {f"{key}0": value[None] for key, value in one.items()}
            data |= {f"{key}1": value[None] for key, value in other.items()}
            matches = matcher(data)["matches0"][0]
            assert len(matches) == len(one["keypoints"])
            assert (matches < max(len(other["keypoints"]), 1)).all()


@pytest.mark.parametrize("name", LEARNT)
def test_half_precision_changes_descriptors_little(
    name: str, drawn_weights: dict[str, str]
) -> None:
    extractor = build(name, drawn_weights)
    given = image()
    whole = extractor({"image": given[None]})
    with torch.autocast("cpu", torch.bfloat16):
        half = extractor({"image": given[None]})
    assert all(v[0].dtype == whole[k][0].dtype for k, v in half.items())
    if len(half["keypoints"][0]) == len(whole["keypoints"][0]):
        a, b = (f["descriptors"][0] for f in (whole, half))
        if a.shape[1] and not name.startswith(("d2net", "mtldesc")):
            assert nn.functional.cosine_similarity(a, b, dim=0).median() > 0.98


@pytest.mark.parametrize("name", LEARNT)
def test_grey_images_are_fine(name: str, drawn_weights: dict[str, str]) -> None:
    extractor = build(name, drawn_weights)
    grey = image()[:1]
    alone, repeated = (extractor({"image": i[None]}) for i in (grey, grey.expand(3, -1, -1)))
    torch.testing.assert_close(alone["keypoints"][0], repeated["keypoints"][0])
    torch.testing.assert_close(alone["descriptors"][0], repeated["descriptors"][0])


@pytest.mark.parametrize("name", LEARNT)
@pytest.mark.parametrize("size", [(1, 1), (300, 5), (24, 23), (65, 33)])
def test_small_images_are_fine(
    name: str, size: tuple[int, int], drawn_weights: dict[str, str]
) -> None:
    given = torch.full((3, *size[::-1]), 0.5)  # no SIFT keypoints: LISRD has no tiles in these
    predicted = build(name, drawn_weights)({"image": given[None]})
    assert predicted["keypoints"][0].shape[1] == 2
