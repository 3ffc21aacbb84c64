"""What holds for every extractor: the test of each method inherits it, for all of its confs.

A method without a test file of its own is covered by ``test_other_methods.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from featplug.base import Extractor, Matcher
from featplug.io.feature_arrays import FORMS, KEYPOINT_AXES
from featplug.methods import (
    build_extractor,
    build_matcher,
    feature_conf,
    features,
    matcher_conf_for,
    matcher_of,
    matchers,
)
from featplug.weights.registry import preferred_entries
from tests.extractors.places import corners
from tests.golden.revisions import Revisions
from tests.scenes.pictures import textured_image

_BUILT: dict[str, Extractor] = {}


def image(width: int = 96, height: int = 80) -> Tensor:
    """A picture in colour, 3×height×width."""
    grey = textured_image(1, width=width, height=height)
    return torch.from_numpy(np.stack([grey, grey[::-1], grey[:, ::-1]]) / np.float32(255))


class OfficialRevision:
    """The test of a method's revision with the authors' weights.

    For networks whose drawn weights give scores so close that rounding decides between them.
    """

    def test_another_output_has_another_revision(
        self, name: str, official: Callable[..., Extractor], revisions: Revisions
    ) -> None:
        extractor = official(name)
        outputs = {
            key: value[0] for key, value in extractor({"image": corners(200, 150)[None]}).items()
        }
        revisions.check(f"feature {name}", extractor.revisions, outputs)


def default_matchers(name: str) -> list[Matcher]:
    """Build the matchers that a conf is matched with, for many views and for two."""
    conf = feature_conf(name)
    names = dict.fromkeys(matcher_of(conf, two_views) for two_views in (False, True))
    return [build_matcher(matcher_conf_for(conf, matcher)["model"]) for matcher in names]


class ExtractorContract:
    """Tests of one method; subclasses name it and may say how it is built."""

    method: ClassVar[str]
    """Name of the file in :mod:`featplug.extractors`."""
    options: ClassVar[dict[str, Any]] = {}
    """Options with which drawn weights find keypoints."""

    def picture(self) -> Tensor:
        """A picture with points; larger for a method that finds none near the border."""
        return image()

    @classmethod
    def names(cls) -> list[str]:
        """The confs to test."""
        return [name for name, conf in features.items() if conf["model"]["name"] == cls.method]

    def network(self, checkpoint: str) -> nn.Module:
        """The network of a checkpoint with drawn weights; by default that of the registry."""
        entry = preferred_entries(checkpoint)[0]
        module, _, name = entry.network.partition(":")
        return getattr(import_module(module), name)(**entry.arguments)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.names())

    def build(self, name: str, folder: Path, **options: Any) -> Extractor:
        """Build the extractor of a conf with drawn weights."""
        model = feature_conf(name)["model"]
        for key in [key for key in model if key.endswith("checkpoint")]:
            file = folder / f"{model[key]}.safetensors"
            if not file.exists():
                torch.manual_seed(0)
                save_file(self.network(model[key]).state_dict(), file)
            model[key.replace("checkpoint", "weights")] = str(file)
        return build_extractor({**model, **self.options, **options})

    @pytest.fixture
    def extractor(self, name: str, drawn_weights: Path) -> Extractor:
        if name not in _BUILT:
            _BUILT[name] = self.build(name, drawn_weights)
        return _BUILT[name]

    def test_the_conf_is_complete(self, name: str) -> None:
        conf = features[name]
        assert conf["paper"]
        assert conf["dimensions"]
        for two_views in (False, True):
            assert matcher_of(conf, two_views) in matchers
        assert conf["output"] == f"feats-featplug-{name}"
        assert "grayscale" in conf["preprocessing"]

    def test_another_output_has_another_revision(
        self, name: str, extractor: Extractor, revisions: Revisions
    ) -> None:
        outputs = {
            key: value[0] for key, value in extractor({"image": self.picture()[None]}).items()
        }
        revisions.check(f"feature {name}", extractor.revisions, outputs)

    def test_few_keypoints_go_through_extractor_and_matcher(
        self, name: str, drawn_weights: Path
    ) -> None:
        built = default_matchers(name)
        extracted = []
        for count in (0, 1, 2):
            # Describers find none in an image without contrast; -1 leaves the number to them.
            extractor = self.build(name, drawn_weights, max_keypoints=count)
            given = self.picture() if count else torch.full((3, 80, 96), 0.5)
            predicted = extractor({"image": given[None]})
            assert len(predicted["keypoints"][0]) == count
            extracted.append({key: value[0] for key, value in predicted.items()})
        for matcher, one, other in itertools.product(built, extracted, extracted):
            matches = matcher.match_pair(one, other)["matches0"]
            assert len(matches) == len(one["keypoints"])
            assert (matches < max(len(other["keypoints"]), 1)).all()

    def test_the_default_matchers_compare_descriptors_as_they_are_made(
        self, name: str, extractor: Extractor
    ) -> None:
        predicted = {k: v[0] for k, v in extractor({"image": self.picture()[None]}).items()}
        lengths = predicted["descriptors"].norm(dim=0)
        is_unit = bool((lengths - 1).abs().max() < 0.02)  # COLMAP rounds to bytes
        fitting = {"dot", "l2"} if is_unit else {"l2"}
        for matcher in default_matchers(name):
            matches = matcher.match_pair(predicted, predicted)["matches0"]
            found = matches >= 0
            assert (matches[found] == torch.arange(len(matches))[found]).float().mean() > 0.9
            if "metric" in matcher.conf:
                binary = "descriptors_packed" in predicted
                assert matcher.conf["metric"] in ({"hamming"} if binary else fitting)

    def test_max_keypoints_keeps_the_strongest(
        self, name: str, extractor: Extractor, drawn_weights: Path
    ) -> None:
        everything = extractor({"image": self.picture()[None]})["scores"][0]
        few = self.build(name, drawn_weights, max_keypoints=3)({"image": self.picture()[None]})[
            "scores"
        ]
        assert len(everything) > 5
        torch.testing.assert_close(few[0].sort()[0], everything.sort()[0][-3:])

    def test_half_precision_keeps_keypoints_and_descriptors(self, extractor: Extractor) -> None:
        given = self.picture()
        whole = extractor({"image": given[None]})
        with torch.autocast("cpu", torch.bfloat16):
            half = extractor({"image": given[None]})
        assert {key: value[0].dtype for key, value in half.items()} == {
            key: value[0].dtype for key, value in whole.items()
        }
        distances = torch.cdist(half["keypoints"][0], whole["keypoints"][0])
        nearest, column = distances.min(1)
        assert (nearest < 1).float().mean() > 0.5
        a = half["descriptors"][0][:, nearest < 0.5]
        b = whole["descriptors"][0][:, column[nearest < 0.5]]
        assert a.shape[1] > 5
        least = 0.9 if "descriptors_packed" in whole else 0.98  # bits flip where outputs are near 0
        assert nn.functional.cosine_similarity(a, b, dim=0).median() > least

    def test_grey_equals_repeated_colour_and_a_batch_its_images(self, extractor: Extractor) -> None:
        """The largest numbers of a batch differ in float16's last bit at most, if at all."""
        grey = torch.stack([self.picture()[:1], self.picture()[1:2]])
        batch = extractor({"image": grey})
        is_batched = type(extractor).extract_batch is not Extractor.extract_batch
        for index in range(2):
            alone = extractor({"image": grey[index : index + 1].expand(-1, 3, -1, -1)})
            assert len(alone["keypoints"][0]) > 5
            for key, value in alone.items():
                tolerance = 2**-11 * float(value[0].abs().max()) if is_batched else 0
                torch.testing.assert_close(batch[key][index], value[0], rtol=0, atol=tolerance)

    @pytest.mark.parametrize("size", [(1, 1), (300, 5), (24, 23), (65, 33)])
    def test_small_images_are_fine(self, size: tuple[int, int], extractor: Extractor) -> None:
        given = torch.full((3, *size[::-1]), 0.5)  # no SIFT keypoints: LISRD has no tiles in these
        predicted = {key: value[0] for key, value in extractor({"image": given[None]}).items()}
        num = len(predicted["keypoints"])
        assert predicted["keypoints"].shape == (num, 2)
        assert predicted["descriptors"].shape[1] == num
        assert predicted["descriptors"].shape[0] > 0
        for key in predicted.keys() & FORMS.keys():
            assert predicted[key].shape[KEYPOINT_AXES[key]] == num

    def test_an_unknown_option_is_rejected(self, name: str, drawn_weights: Path) -> None:
        with pytest.raises(ValueError, match=r"'max_keypoint'.*'max_keypoints'"):
            self.build(name, drawn_weights, max_keypoint=3)

    def test_weights_are_recorded_and_not_settings(self, name: str, extractor: Extractor) -> None:
        checkpoints = [k for k in feature_conf(name)["model"] if k.endswith("checkpoint")]
        assert len(extractor.weights_records) == len(checkpoints)
        left_out = ("weights", "checkpoint", "batch_size")
        assert not {key for key in extractor.settings if key.endswith(left_out)}
