"""Published numbers: those of the papers, and compared only where that is fair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pair_values import MEAN_OF_SCENES
from benchmarks.published import compare, context, load_published
from benchmarks.record import Row
from featplug.methods import features, pair_matchers
from featplug.weights.registry import read_registry
from tests.documented import metric


def reconstruction(feature: str, points: int, images: int = 11, **fields: Any) -> Row:
    metrics = {"images": metric(images, "images"), "sparse_points": metric(points, "points")}
    protocol = "local-feature-evaluation"
    return Row(feature, fields.pop("dataset", "fountain-P11"), protocol, metrics=metrics, **fields)


@pytest.mark.parametrize(
    ("source", "feature", "dataset", "part", "metric_name", "value", "unit"),
    [
        ("Luo", "contextdesc", "fountain-P11", "all", "sparse_points", 16965, "points"),
        ("Luo", "contextdesc", "Herz-Jesus-P8", "all", "observations", 40000, "observations"),
        ("Luo", "GeoDesc", "hpatches-patches", "all", "verification_map", 91.1, "%"),
        ("GrumpyZhou", "d2net", "hpatches", "all", "mma_3", 0.4300, "fraction"),
        ("mihaidusmanu", "d2net", "hpatches", "viewpoint", "mean_matches", 2925.50,
         "matches per pair"),
        ("Dusmanu", "d2net-ms", "gendarmenmarkt", "all", "mean_reprojection_error", 1.28, "px"),
        ("cvg", "SuperPoint + SuperGlue, temporal", "inloc", "DUC2", "recall_1m_10deg", 82.4, "%"),
        ("cvg", "d2net", "aachen", "night", "recall_5m_10deg", 100.0, "%"),
        ("He", "sift", "rome-patches", "test", "retrieval_map", 87.9, "%"),
        ("kunhe", "doap-st", "hpatches-patches", "intra-tough", "verification_map", 0.9206,
         "fraction"),
        ("rpautrat", "lisrd", "rdnim", "night", "homography_accuracy_3", 0.3914, "fraction"),
        ("Pautrat", "lisrd", "hpatches", "viewpoint", "recall", 0.495, "fraction"),
        ("vignywang", "mtldesc", "hpatches", "all", "mma_3", 0.7877, "fraction"),
        ("Wang", "mtldesc", "hpatches", "all", "mma_3", 78.66, "%"),
        ("Wang", "mtldesc", "inloc", "DUC2", "recall_1m_10deg", 70.2, "%"),
        ("Potje", "xfeat", "aachen", "night", "recall_0.25m_2deg", 77.6, "%"),
        ("Lindenberger", "SuperPoint + LightGlue", "aachen", "day", "recall_0.5m_5deg", 95.4, "%"),
        ("Sun", "loftr", "aachen-v1.1", "day", "recall_5m_10deg", 99.0, "%"),
        ("Sun", "loftr", "inloc", "DUC1", "recall_0.5m_10deg", 72.2, "%"),
        ("Sarlin", "contextdesc+NN-ratio", "scannet1500", "all", "pose_auc_10", 15.01, "%"),
    ],
)  # fmt: skip
def test_numbers_are_those_that_are_printed(
    source: str,
    feature: str,
    dataset: str,
    part: str,
    metric_name: str,
    value: float,
    unit: str,
) -> None:
    found = [
        (number.value, number.unit)
        for number in load_published()
        if number.source.startswith(source)
        and (number.feature, number.dataset, number.part, number.metric)
        == (feature, dataset, part, metric_name)
    ]
    assert found == [(value, unit)]


def test_means_that_tables_print_are_the_means_of_their_numbers() -> None:
    """A slip of a digit in a table would show in the means that the paper prints next to it.

    The paper cuts some of its means, 1.7667 to 1.76, and rounds others.
    """
    means = {
        "MatchNet": 8.05,
        "TFeat-M*": 6.64,
        "TL-AS-GOR": 4.36,
        "CS-SNet-GLoss+": 2.71,
        "L2-Net+": 2.23,
        "HardNet+": 1.90,
        "HardNet-GOR+": 1.86,
        "CS-L2-Net+": 1.76,
        "doap": 1.45,
        "doap-st": 1.38,
        "BinBoost": 19.24,
        "L2-Net+ binary": 7.01,
        "CS-L2-Net+ binary": 4.12,
        "doap-binary": 3.01,
        "doap-st-binary": 2.89,
        "sift": 26.55,
    }
    for feature, mean in means.items():
        values = [n.value for n in load_published() if n.metric == "fpr95" and n.feature == feature]
        assert sum(values) / len(values) == pytest.approx(mean, abs=0.0095), feature
    for protocol, weights, printed_mean in (
        ("hpatches-patches-a", "doap_hpatches_st_lm", 0.6629),
        ("hpatches-patches-full", "doap_liberty", 0.5222),
        ("hpatches-patches-full", "doap_liberty_st", 0.5278),
    ):
        levels = [
            n.value
            for n in load_published()
            if (n.protocol, n.weights, n.metric) == (protocol, weights, "matching_map")
            and n.part != "all"
        ]
        # Split a has as many illumination as viewpoint sequences; "full" about as many.
        assert sum(levels) / 6 == pytest.approx(printed_mean, abs=6e-4)


def test_weights_are_in_the_registry_under_the_conf_that_uses_them() -> None:
    registry = read_registry()
    for number in load_published():
        if number.weights:
            feature = number.feature.partition("+")[0]
            conf = features[feature] if feature in features else pair_matchers[feature]
            checkpoint = conf["model"].get("checkpoint", feature)
            assert registry[number.weights].feature == checkpoint, number


def test_the_numbers_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = load_published()
    monkeypatch.chdir(tmp_path)
    load_published.cache_clear()
    assert load_published() == numbers


def test_a_row_is_compared_with_its_table() -> None:
    (comparison,) = compare("reconstruction", reconstruction("contextdesc", 17000))
    assert comparison.reason is None
    assert comparison.difference == 17000 - 16965
    assert "Another version of COLMAP" in comparison.caveat
    others = {n.feature: n.value for n in context("reconstruction", reconstruction("x", 1))}
    assert others == {
        "SIFT": 10004,
        "GeoDesc": 16687,
        "contextdesc": 16965,
        "SIFT (COLMAP)": 14722,
    }


def test_the_folder_of_a_dataset_may_be_spelt_as_its_benchmark_does() -> None:
    for dataset in ("Fountain", "fountain_P11"):
        row = reconstruction("contextdesc", 17000, dataset=dataset)
        assert [c.reason for c in compare("reconstruction", row)] == [None]
    row = reconstruction("d2net-ms", 1, dataset="Tower_of_London", images=1576)
    assert [c.published.value for c in compare("reconstruction", row)] == [287000]
    assert compare("reconstruction", reconstruction("contextdesc", 1, dataset="castle-P19")) == []


def test_rates_are_compared_in_the_unit_they_are_printed_in() -> None:
    row = Row("contextdesc", "hpatches", "recall-contextdesc", "viewpoint",
              metrics={"recall": metric(0.75, "of the true matches")},
              weights=[{"name": "contextdesc_pp", "origin": "official"}])  # fmt: skip
    by_variant = {(c.published.variant, c.published.table): c for c in compare("matching", row)}
    same = by_variant["ContextDesc++", "section 4.6"]
    assert same.ours == pytest.approx(75)
    assert same.difference == pytest.approx(75 - 77.20)
    per_cent = replace(row, metrics={"recall": metric(75.0, "%")})
    assert {c.ours for c in compare("matching", per_cent)} == {75.0}
    other = by_variant["ContextDesc+", "Table 1"]
    assert other.difference is None
    assert other.reason == (
        "Published for another network (ContextDesc+ and contextdesc_p), "
        "measured with contextdesc_pp."
    )


def test_weights_of_our_own_are_compared_and_named() -> None:
    row = reconstruction(
        "contextdesc", 9, weights=[{"name": "featplug_contextdesc", "origin": "featplug"}]
    )
    (comparison,) = compare("reconstruction", row)
    assert comparison.reason is None
    assert comparison.caveat.endswith(
        "Measured with featplug_contextdesc, not with the authors' weights."
    )


def test_what_differs_is_the_reason_why_nothing_is_compared() -> None:
    fewer = reconstruction("contextdesc", 5000, images=8)
    assert [c.reason for c in compare("reconstruction", fewer)] == [
        "Published with images 11, measured with images 8."
    ]
    row = Row("mtldesc", "hpatches", "mma-d2net", metrics={"mma_3": metric(0.8, "of the matches")})
    cache, paper = compare("matching", row, {"max_keypoints": 2048})
    assert cache.reason == (
        "Published with no limit of max_keypoints, measured with max_keypoints 2048."
    )
    assert paper.reason == ("Published by the protocol mtldesc-hpatches, measured by mma-d2net.")
    assert compare("matching", row)[0].reason == (
        "Published with max_keypoints None, which the run does not record."
    )
    assert compare("matching", row, {"max_keypoints": -1})[0].difference == pytest.approx(0.0123)
    partial = replace(row, not_comparable="8 of 108 sequences.")
    partial_reasons = {c.reason for c in compare("matching", partial, {"max_keypoints": None})}
    assert partial_reasons == {"8 of 108 sequences."}


def test_descriptors_are_compared_at_the_same_kind_of_keypoints() -> None:
    def reasons(feature: str, dataset: str, protocol: str, part: str) -> set[str | None]:
        row = Row(feature, dataset, protocol, part, metrics={"recall": metric(0.5, "of matches")})
        return {c.reason for c in compare("matching", row)}

    hpatches = ("hpatches", "lisrd-480x640", "viewpoint")
    assert reasons("lisrd", *hpatches) == {None}
    assert reasons("lisrd@sift-opencv", *hpatches) == {None}
    assert reasons("lisrd@mtldesc", *hpatches) == {
        "Published at keypoints of SIFT, measured at those of mtldesc."
    }
    assert reasons("lisrd", "rdnim", "rdnim", "day") == {
        "Published at keypoints of SuperPoint, measured at those of SIFT."
    }


def test_limits_are_those_that_the_row_was_measured_with() -> None:
    row = Row("disk", "hpatches", "mma-d2net", metrics={"mma_3": metric(0.75, "of the matches")})

    def reason(**settings: Any) -> str | None:
        options = {"max_keypoints": None, "resize_max": None}
        few, _many = compare("matching", replace(row, settings=settings), options)
        return few.reason

    assert reason(max_keypoints=2048, resize_max=1024) is None
    assert reason(max_keypoints=2048, resize_max=1600) == (
        "Published with resize_max 1024, measured with resize_max 1600."
    )
    assert reason(max_keypoints=2048) == (
        "Published with resize_max 1024, measured with no limit of resize_max."
    )


def test_another_threshold_of_the_estimator_is_a_caveat(monkeypatch: pytest.MonkeyPatch) -> None:
    published = replace(
        next(n for n in load_published() if n.feature == "mtldesc" and n.metric == "mma_3"),
        threshold=2.0,
        settings={},
        unstated=("max_keypoints",),
    )
    row = Row("mtldesc", "hpatches", published.protocol, metrics={"mma_3": metric(0.8, "fraction")})

    def caveat(threshold: float | str, estimator: str | None) -> str:
        number = replace(published, threshold=threshold)
        module = "benchmarks.published.fair_comparison.load_published"
        monkeypatch.setattr(module, lambda: (number,))
        (comparison,) = compare("matching", replace(row, estimator=estimator))
        assert comparison.reason is None
        return comparison.caveat

    assert "threshold" not in caveat(2.0, "poselib (2 px)")
    assert "of 2 px; measured with poselib (1 px)" in caveat(2.0, "poselib (1 px)")
    assert "tuned on the test pairs" in caveat("tuned on the test pairs", "poselib (1 px)")
    assert "does not state max_keypoints" in caveat(2.0, "poselib (2 px)")


def test_pose_numbers_of_one_method_differ_by_estimator_and_number_of_keypoints() -> None:
    def values(**wanted: Any) -> list[float]:
        return [
            n.value
            for n in load_published()
            if n.metric == "pose_auc_10" and all(getattr(n, k) == v for k, v in wanted.items())
        ]

    readme = {"source": "cvg/glue-factory, README", "dataset": "megadepth1500"}
    sift = {**readme, "feature": "sift+lightglue", "protocol": "megadepth-1500+poselib"}
    assert values(**sift) == [74.3, 78.6]
    aliked = {**readme, "feature": "aliked-n16+lightglue"}
    assert values(**aliked, threshold=0.5) == [68.8]
    assert values(**aliked, threshold=2.0) == [79.0]
    row = Row(
        "aliked-n16+lightglue",
        "megadepth1500",
        "megadepth-1500+poselib",
        estimator="poselib (2 px)",
        settings={"max_keypoints": 2048, "resize_max": 1600},
        metrics={"pose_auc_10": metric(0.78, "fraction")},
    )
    by_protocol = {c.published.protocol: c for c in compare("relative-pose", row)}
    assert by_protocol["megadepth-1500+poselib"].difference == pytest.approx(-1.0)
    assert by_protocol["megadepth-1500+opencv-ransac"].reason == (
        "Published by the protocol megadepth-1500+opencv-ransac, measured by "
        "megadepth-1500+poselib."
    )


def test_poses_of_another_matcher_are_not_compared() -> None:
    row = Row(
        "d2net",
        "scannet1500",
        "scannet-1500+opencv-ransac",
        metrics={"pose_auc_5": metric(0.05, "fraction")},
        matcher="NN-mutual",
    )
    assert [c.reason for c in compare("relative-pose", row)] == [None]
    (other,) = compare("relative-pose", replace(row, matcher="NN-ratio (ratio 0.8)"))
    assert other.reason == "Published with NN-mutual, measured with NN-ratio."


def test_phototourism_has_the_numbers_of_its_paper() -> None:
    found = {
        (n.protocol, n.settings["max_keypoints"]): n.value
        for n in load_published()
        if (n.feature, n.dataset, n.metric) == ("contextdesc", "phototourism", "pose_maa_10")
    }
    assert found["phototourism-stereo+degensac", 8000] == 0.5098
    assert found["phototourism-stereo+magsac", 2048] == 0.3485
    assert found["phototourism-multiview", 8000] == 0.7035
    assert found["phototourism-multiview", 2048] == 0.5568
    # The paper's are means over scenes, of which a run has a row of its own.
    metrics = {"pose_maa_10": metric(0.5, "fraction")}
    row = Row("contextdesc", "phototourism", "phototourism-stereo+degensac", metrics=metrics)
    assert compare("relative-pose", row) == []
    assert compare("relative-pose", replace(row, part=MEAN_OF_SCENES))


def test_a_small_set_in_the_layout_of_a_large_one_is_not_compared() -> None:
    row = Row(
        "d2net",
        "aachen",
        "aachen",
        "night",
        metrics={"recall_5m_10deg": metric(100.0, "%"), "queries": metric(8, "images")},
    )
    options = {"retrieval": "netvlad", "num_loc": 30}
    (few,) = compare("localization", row, options)
    assert few.reason == "Published with queries 98, measured with queries 8."
    whole = replace(row, metrics={**row.metrics, "queries": metric(98, "images")})
    assert compare("localization", whole, options)[0].difference == 0
    day = replace(whole, part="day")
    assert compare("localization", day, options)[0].reason == (
        "Published with queries 824, measured with queries 98."
    )


def test_the_printed_digits_are_known() -> None:
    digits = {
        (n.metric, n.digits)
        for n in load_published()
        if n.source.startswith("Luo") and n.table == "Table 4"
    }
    assert {("sparse_points", 0), ("observations", -3)} <= digits
    (number,) = (
        n for n in load_published() if n.source.startswith("vignywang") and n.metric == "mma_3"
        and n.part == "all"
    )  # fmt: skip
    assert number.half_digit == pytest.approx(5e-5)
