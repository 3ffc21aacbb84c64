"""The one check of what extractors and matchers return, and of what they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from featplug.base import Extractor, GlobalExtractor, Matcher, PairMatcher, autocast, choose_device
from featplug.base.output_checks import check_features, check_matches, check_pair_matches

FEATURES = {
    "keypoints": torch.tensor([[0.0, -0.5], [7.5, 5.5], [3.0, 2.0]]),
    "scores": torch.ones(3),
    "descriptors": torch.ones(4, 3),
    "scales": torch.ones(3),
    "meta_grid": torch.zeros(2, 3),
    "descriptors_packed": torch.zeros((1, 3), dtype=torch.uint8),
    "meta_descriptors": torch.zeros(2, 5, 3, 3),
}


def test_features_of_the_contract_pass() -> None:
    check_features(FEATURES, (8, 6), "Mine")
    none = {key: value[..., :0] for key, value in FEATURES.items()}
    none |= {"keypoints": torch.zeros(0, 2), "meta_descriptors": FEATURES["meta_descriptors"]}
    check_features(none, (8, 6), "Mine")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("keypoints", torch.zeros(3, 3), "3×2"),
        ("keypoints", torch.zeros(6), "6×2"),
        ("keypoints", torch.zeros(()), "0×2"),
        ("keypoints", torch.zeros((3, 2), dtype=torch.int64), "float32"),
        ("keypoints", torch.zeros((3, 2), dtype=torch.float64), "float32"),
        ("keypoints", torch.tensor([[0.0, 0], [7.6, 0], [1, 1]]), "8×6 pixels"),
        ("keypoints", torch.tensor([[0.0, -0.6], [7.5, 0], [1, 1]]), "8×6 pixels"),
        ("scores", torch.ones(2), "must be 3,"),
        ("scores", torch.ones(1, 3), "must be 3,"),
        ("scores", torch.tensor([1.0, torch.nan, 0]), "NaN"),
        ("scores", torch.ones(3, dtype=torch.float16), "float32"),
        ("descriptors", torch.ones(3, 4), "D×3.*transposed"),
        ("descriptors", torch.full((4, 3), torch.inf), "infinite"),
        ("scales", torch.ones(3, 1), "must be 3,"),
        ("meta_grid", torch.zeros(3, 2), "K×3"),
        ("descriptors_packed", torch.zeros(3, dtype=torch.uint8), "K×3"),
    ],
)
def test_features_against_the_contract_are_rejected(key: str, value: Tensor, problem: str) -> None:
    with pytest.raises(ValueError, match=f"Mine: {key}.*{problem}"):
        check_features({**FEATURES, key: value}, (8, 6), "Mine")


def test_more_keypoints_than_asked_for_are_rejected() -> None:
    for allowed in (3, -1, None):
        check_features(FEATURES, (8, 6), "Mine", max_keypoints=allowed)
    with pytest.raises(ValueError, match=r"Mine.*3 keypoints.*max_keypoints is 2.*strongest"):
        check_features(FEATURES, (8, 6), "Mine", max_keypoints=2)


def test_outputs_are_checked_along_the_axis_that_the_extractor_declares() -> None:
    features = {**FEATURES, "angles": torch.zeros(2, 3), "thumbnail": torch.zeros(5)}
    axes: dict[str, int | None] = {"angles": 1, "thumbnail": None}
    check_features(features, (8, 6), "Mine", keypoint_axes=axes)
    for wrong in (0, 2):
        with pytest.raises(ValueError, match=r"Mine: angles.*keypoint_axes"):
            check_features(features, (8, 6), "Mine", keypoint_axes={**axes, "angles": wrong})
    with pytest.raises(ValueError, match=r"Mine: names.*list.*as_tensor"):
        check_features({**FEATURES, "names": ["a"]}, (8, 6), "Mine")  # type: ignore[dict-item]


@pytest.mark.parametrize("key", ["keypoints", "scores", "descriptors"])
def test_missing_features_are_rejected(key: str) -> None:
    features = {k: v for k, v in FEATURES.items() if k != key}
    with pytest.raises(ValueError, match=f"Mine returned no {key}"):
        check_features(features, (8, 6), "Mine")


@pytest.mark.parametrize("returned", [None, [torch.zeros(3, 2)], {"keypoints": [[0, 0]]}])
def test_what_is_no_dictionary_of_tensors_is_rejected(returned: Any) -> None:
    keys = {"scores": torch.ones(1), "descriptors": torch.ones(4, 1)}
    given = {**keys, **returned} if isinstance(returned, dict) else returned
    with pytest.raises(ValueError, match=r"Mine.*(dictionary with keypoints|keypoints.*as_tensor)"):
        check_features(given, (8, 6), "Mine")
    with pytest.raises(ValueError, match="Mine returned"):
        check_matches(returned, 3, 2, "Mine")
    with pytest.raises(ValueError, match="Mine returned"):
        check_pair_matches(returned, (8, 6), (8, 6), "Mine")


class Global(GlobalExtractor):
    """Returns what it was built with."""

    default_conf: ClassVar[dict[str, Any]] = {"returned": None}

    def describe(self, image: Tensor) -> Tensor:
        return self.conf["returned"]


def test_global_descriptors_are_checked() -> None:
    images = {"image": torch.zeros(2, 3, 8, 8)}
    assert Global({"returned": torch.ones(4) / 2})(images)["global_descriptor"].shape == (2, 4)
    for returned, problem in [
        (None, "D numbers, not NoneType"),
        (torch.ones(1, 4), "D numbers, not 1×4"),
        (torch.ones(4, dtype=torch.float64), "float32"),
        (torch.full((4,), torch.nan), "NaN"),
        (torch.ones(4), "unit length, not 2"),
    ]:
        with pytest.raises(ValueError, match=f"Global: global_descriptor.*{problem}"):
            Global({"returned": returned})(images)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"matches0": torch.tensor([0, 1])}, "matches0"),
        ({"matches0": torch.tensor([0, 1, -1], dtype=torch.int32)}, "matches0.*int64"),
        ({"matches0": torch.tensor([0, 2, -1])}, "matches0"),
        ({"matches0": torch.tensor([0, 1, -2])}, "matches0"),
        ({"matching_scores0": torch.ones(2)}, "matching_scores0"),
        ({"matching_scores0": torch.ones(3, dtype=torch.int64)}, "matching_scores0.*float"),
        ({"matching_scores0": torch.tensor([0.0, 1.1, 0])}, "matching_scores0"),
        ({"matching_scores0": torch.tensor([0.0, torch.nan, 0])}, "matching_scores0"),
    ],
)
def test_matches_against_the_contract_are_rejected(
    changed: dict[str, Tensor], problem: str
) -> None:
    right = {"matches0": torch.tensor([0, 1, -1]), "matching_scores0": torch.tensor([1.0, 0.5, 0])}
    check_matches(right, 3, 2, "Mine")
    with pytest.raises(ValueError, match=f"Mine: {problem}"):
        check_matches({**right, **changed}, 3, 2, "Mine")
    for key in right:
        with pytest.raises(ValueError, match=f"no {key}"):
            check_matches({k: v for k, v in right.items() if k != key}, 3, 2, "Mine")


POINTS = {
    "keypoints0": torch.tensor([[0.0, -0.5], [7.5, 5.5]]),
    "keypoints1": torch.tensor([[1.0, 9.0], [3.0, 2.0]]),
    "scores": torch.tensor([1.0, 0]),
}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"keypoints0": torch.zeros(3, 2)}, "keypoints1.*3×2"),
        ({"keypoints0": torch.zeros(2, 3)}, "keypoints0.*2×2"),
        ({"keypoints0": torch.zeros(())}, "keypoints0"),
        ({"keypoints1": torch.zeros(2, 2, dtype=torch.float64)}, "keypoints1.*float32"),
        ({"keypoints1": torch.zeros(2, 2, dtype=torch.int64)}, "keypoints1.*float32"),
        ({"keypoints1": torch.tensor([[torch.nan, 0], [0, 0]])}, "keypoints1.*NaN"),
        ({"keypoints0": torch.tensor([[0.0, 9], [0, 0]])}, "keypoints0.*8×6 pixels"),
        ({"scores": torch.ones(3)}, "scores"),
        ({"scores": torch.tensor([1.5, 0])}, "scores.*0, 1.*clamp"),
        ({"scores": torch.tensor([torch.nan, 0])}, "scores"),
    ],
)
def test_points_against_the_contract_of_pair_matchers_are_rejected(
    changed: dict[str, Tensor], problem: str
) -> None:
    check_pair_matches(POINTS, (8, 6), (6, 10), "Mine")
    none = {key: value[:0] for key, value in POINTS.items()}
    check_pair_matches(none, (8, 6), (6, 10), "Mine")
    with pytest.raises(ValueError, match=f"Mine: {problem}"):
        check_pair_matches({**POINTS, **changed}, (8, 6), (6, 10), "Mine")
    for key in POINTS:
        lacking = {k: v for k, v in POINTS.items() if k != key}
        with pytest.raises(ValueError, match=f"Mine.*no {key}"):
            check_pair_matches(lacking, (8, 6), (6, 10), "Mine")


class Corners(PairMatcher):
    """Matches the corners of two images."""

    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        ends = [torch.tensor([[0, 0], list(i.shape[:0:-1])]).float() for i in (image0, image1)]
        return {"keypoints0": ends[0] - 1, "keypoints1": ends[1], "scores": torch.ones(2)}


class Middles(PairMatcher):
    """Matches the middles of two images."""

    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        sizes = [torch.tensor([list(image.shape[:0:-1])]) for image in (image0, image1)]
        middles = [(size - 1) / 2 for size in sizes]
        return {"keypoints0": middles[0], "keypoints1": middles[1], "scores": torch.ones(1)}


def test_pair_matchers_are_checked_when_they_run_and_have_hlocs_form() -> None:
    image0, image1 = torch.zeros(3, 6, 8), torch.zeros(1, 5, 3)
    result = Middles().match_pair(image0, image1)
    assert result["keypoints0"].tolist() == [[3.5, 2.5]]
    same = Middles()({"image0": image0[None], "image1": image1[None]})
    assert all(torch.equal(same[key], value) for key, value in result.items())
    with pytest.raises(ValueError, match=r"Corners: keypoints0.*8×6"):
        Corners().match_pair(image0, image1)
    for wrong in (image0[0], image0.byte(), torch.zeros(4, 5, 6)):
        with pytest.raises(ValueError, match="C×H×W"):
            Middles().match_pair(image0, wrong)
    with pytest.raises(ValueError, match="Middles needs image1"):
        Middles()({"image0": image0[None]})
    with pytest.raises(ValueError, match=r"image1.*batch axis"):
        Middles()({"image0": image0[None], "image1": image1})


class LightGlueLike(Matcher):
    """Reads what LightGlue reads, and matches the keypoints of one scale and image size."""

    required_keys = ("keypoints", "descriptors", "image_size")
    optional_keys = ("scales", "oris", "lafs", "places", "tiles")
    keypoint_axes: ClassVar[Mapping[str, int | None]] = {"places": -1, "tiles": None}

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        assert features0["image_size"].tolist() == [8, 6]
        same = features0["keypoints"][:, None] == features1["keypoints"]
        found, column = same.all(2).max(1)
        return {"matches0": torch.where(found, column, -1), "matching_scores0": found.float()}


def side(num: int) -> dict[str, Tensor]:
    numbers = torch.arange(num).float()
    return {
        "keypoints": torch.stack([numbers, numbers], 1),
        "descriptors": numbers.repeat(4, 1),
        "scales": numbers,
        "lafs": numbers[:, None, None].repeat(1, 2, 3),
        "places": numbers.repeat(2, 1),
        "tiles": torch.arange(5),
        "image_size": torch.tensor([8.0, 6]),
        "scores": numbers,
        "unknown": numbers,
    }


@pytest.mark.parametrize("keep", [[4, 0, 2], slice(3), [], [True, False, False, True, True, True]])
def test_any_keypoints_can_be_selected(keep: object) -> None:
    matcher = LightGlueLike()
    given = side(6)
    chosen = keep if isinstance(keep, slice) else torch.tensor(keep)
    if isinstance(chosen, Tensor) and not chosen.numel():
        chosen = chosen.long()
    some = matcher.select(given, chosen)
    rows = torch.arange(6)[chosen].float()
    assert matcher.num_keypoints(some) == len(rows)
    assert set(some) == set(given) - {"unknown"}  # nobody knows how to choose from it
    for key in ("descriptors", "scales", "lafs", "places", "keypoints", "scores"):
        axis = 1 if key in ("descriptors", "places") else 0
        assert torch.equal(some[key], given[key].index_select(axis, rows.long())), key
    for key in ("tiles", "image_size"):
        assert some[key] is given[key]
    assert matcher.match_pair(some, given)["matches0"].tolist() == rows.tolist()


def test_arrays_of_other_keypoints_are_rejected() -> None:
    mixed = {**side(3), "descriptors": torch.zeros(4, 2)}
    with pytest.raises(ValueError, match=r"LightGlueLike.*3 of keypoints, 2 of desc.*\.select"):
        LightGlueLike().match_pair(mixed, side(3))


def test_an_unknown_array_needs_a_declared_axis() -> None:
    class Undeclared(First):
        required_keys = ("descriptors", "angles")

    with pytest.raises(ValueError, match=r"Undeclared.*angles.*keypoint_axes"):
        Undeclared().match_pair({}, {})
    with pytest.raises(ValueError, match=r"Undeclared.*angles.*keypoint_axes"):
        Undeclared().select({}, slice(1))


class Batched(Extractor):
    """Computes several images at once; one feature for each, of the image's mean."""

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        return self.extract_batch(image[None])[0]

    def extract_batch(self, images: Tensor) -> list[dict[str, Tensor]]:
        one = {"keypoints": torch.zeros(1, 2), "scores": torch.ones(1)}
        means = images.mean((1, 2, 3)) if len(images) != 3 else torch.ones(1)
        return [{**one, "descriptors": mean.reshape(1, 1)} for mean in means]


def test_methods_may_compute_batches() -> None:
    images = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    assert [float(d) for d in Batched()({"image": images})["descriptors"]] == [0, 1]
    assert float(Batched().extract(images[1])["descriptors"]) == 1
    with pytest.raises(ValueError, match=r"Batched.*1 image.*3"):
        Batched()({"image": torch.zeros(3, 3, 4, 4)})


class Broken(Extractor):
    """Returns a keypoint outside of the image."""

    default_conf: ClassVar[dict[str, Any]] = {"mode": "x", "size": 1, "limit": None}
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"mode": ("x", "y")}
    positive = ("size", "limit")

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        descriptors = torch.zeros(2, 1)
        return {
            "keypoints": torch.tensor([[99.0, 0]]),
            "scores": torch.ones(1),
            "descriptors": descriptors,
        }


class First(Matcher):
    """Matches every keypoint with the first."""

    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        num = features0["descriptors"].shape[1]
        return {
            "matches0": torch.zeros(num, dtype=torch.int64),
            "matching_scores0": torch.ones(num),
        }


def test_methods_are_checked_when_they_run() -> None:
    with pytest.raises(ValueError, match="Broken: keypoints"):
        Broken()({"image": torch.zeros(1, 3, 8, 8)})
    for image in (torch.zeros(3, 8, 8), torch.zeros((1, 3, 8, 8), dtype=torch.uint8)):
        with pytest.raises(ValueError, match="B×C×H×W"):
            Broken()({"image": image})
    some, none = {"descriptors": torch.zeros(2, 3)}, {"descriptors": torch.zeros(2, 0)}
    assert First().match_pair(some, some)["matches0"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="First: matches0"):
        First().match_pair(some, none)


@pytest.mark.parametrize(
    ("conf", "problem"),
    [
        ({"mode": "z"}, "mode.* x, y"),
        ({"size": 0}, "size.*positive"),
        ({"size": None}, "size.*positive"),
        ({"limit": -1}, "limit.*positive"),
        ({"modes": "x"}, "'modes'.*'mode'"),
    ],
)
def test_options_are_checked(conf: dict[str, Any], problem: str) -> None:
    assert Broken({"limit": None}).conf == {"mode": "x", "size": 1, "limit": None}
    with pytest.raises(ValueError, match=problem):
        Broken(conf)


def test_devices_and_precisions_are_checked() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="'cuda:99'"):
        choose_device("cuda:99")
    with pytest.raises(ValueError, match="fp32, fp16, bf16"):
        autocast(torch.device("cpu"), "int4")
    with autocast(torch.device("cpu"), "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "fp32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
