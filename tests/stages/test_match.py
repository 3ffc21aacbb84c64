"""The matching engine: what it reads, within which memory, and that it survives being killed."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest
from torch import Tensor

from featplug.api import FeatureMatcher
from featplug.io import match_store
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.io.store import FeatureReader, FeatureWriter
from featplug.methods import matcher_conf
from featplug.stages import match as match_module
from featplug.stages.match import match_features
from tests.stages.killing import Killer
from tests.stages.test_extract import assert_same_content, read_all

NAMES = [f"db/{i:02}.jpg" for i in range(24)]


def write_random_features(path: Path, names: list[str], num: int, seed: int = 0) -> None:
    """Unit descriptors of points that all images see, in another order in each."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((128, num))
    with FeatureWriter(path, Provenance("features", {"seed": seed})) as writer:
        for name in names:
            noisy = common[:, rng.permutation(num)] + 0.3 * rng.standard_normal((128, num))
            noisy /= np.linalg.norm(noisy, axis=0)
            features = {
                "keypoints": rng.random((num, 2), dtype=np.float32),
                "scores": np.ones(num, np.float32),
                "descriptors": noisy.astype(np.float16),
            }
            writer.write(name, features, (640, 480), 1.0, "")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "feats.h5"
    write_random_features(path, NAMES, 60)
    return path


@pytest.fixture(scope="module")
def pairs(features: Path) -> Path:
    path = features.with_name("pairs.txt")
    write_pairs(path, combinations(NAMES, 2))
    return path


@pytest.fixture(scope="module")
def whole(features: Path, pairs: Path) -> Path:
    summary = match_features("NN-ratio", pairs, features)
    assert summary.num_matched == len(NAMES) * (len(NAMES) - 1) // 2
    return summary.match_path


def test_the_file_has_hlocs_name_and_the_true_matches(features: Path, whole: Path) -> None:
    assert whole.name == "feats_matches-featplug-NN-mutual-ratio.8_pairs.h5"
    with FeatureReader(features) as reader, MatchReader(whole) as matches:
        descriptors = [reader.read(n, ["descriptors"])["descriptors"] for n in NAMES[:2]]
        similarity = descriptors[0].astype(np.float64).T @ descriptors[1]
        found, _ = matches.read(*NAMES[:2])
    assert len(found) == 60
    np.testing.assert_array_equal(similarity.argmax(1)[found[:, 0]], found[:, 1])


def test_hlocs_features_give_hlocs_matches(shared: Path, tmp_path: Path) -> None:
    """The same pairs, features and tests as hloc's own file; near ties may fall otherwise."""
    folder = shared / "golden" / "hloc"
    summary = match_features(
        "NN-ratio", folder / "pairs-db.txt", folder / "feats-sift.h5", export_dir=tmp_path
    )
    theirs_path = folder / "feats-sift_matches-NN-mutual-ratio.8_pairs-db.h5"
    total = 0
    with (
        FeatureReader(folder / "feats-sift.h5") as features,
        MatchReader(summary.match_path) as ours,
        MatchReader(theirs_path) as theirs,
    ):
        for name0, name1 in read_pairs(folder / "pairs-db.txt"):
            mine = set(map(tuple, ours.read(name0, name1)[0].tolist()))
            other = set(map(tuple, theirs.read(name0, name1)[0].tolist()))
            total += len(mine | other)
            if mine != other:
                desc0, desc1 = (
                    features.read(name)["descriptors"].astype(float) for name in (name0, name1)
                )
                for i, j in mine ^ other:
                    assert is_undecided(desc0.T @ desc1, i, j)
    assert total > 500


def is_undecided(similarity: np.ndarray, i: int, j: int, slack: float = 1e-5) -> bool:
    """Whether float32 rounding can decide the ratio test of a match, or which the nearest is."""
    for row, best in ((similarity[i], j), (similarity[:, j], i)):
        others = np.delete(row, best).max()
        if abs((1 - row[best]) - 0.64 * (1 - others)) < slack or abs(row[best] - others) < slack:
            return True
    return False


def test_each_image_is_read_once_within_the_budget(
    features: Path, pairs: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    original = FeatureReader.read

    def counting(self: FeatureReader, name: str, keys: object = None) -> dict[str, np.ndarray]:
        reads.append(name)
        return original(self, name, keys)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureReader, "read", counting)
    match_features("NN-ratio", pairs, features, matches=tmp_path / "large.h5")
    assert sorted(reads) == NAMES
    # A budget for 9 of the 24 images: blocks of 6 that stay while all later ones pass by.
    reads.clear()
    one_image = 60 * (128 + 3) * 4  # descriptors, places and scores
    budget = 2 * 9 * one_image / 2**30
    match_features("NN-ratio", pairs, features, matches=tmp_path / "small.h5", memory_gib=budget)
    assert len(reads) <= 24 + 18 + 12 + 6
    assert_same_content(tmp_path / "large.h5", whole)
    assert_same_content(tmp_path / "small.h5", whole)


def test_two_feature_files_can_be_matched(features: Path, tmp_path: Path) -> None:
    """As queries are against a database."""
    queries = tmp_path / "queries.h5"
    write_random_features(queries, ["q/1.jpg"], 60)
    write_pairs(tmp_path / "pairs.txt", [("q/1.jpg", NAMES[0]), ("q/1.jpg", NAMES[1])])
    summary = match_features(
        "NN-mutual", tmp_path / "pairs.txt", queries, tmp_path, features_ref=features
    )
    assert summary.num_matched == 2
    assert summary.num_matches > 100


def test_names_in_two_files_are_different_images(features: Path, tmp_path: Path) -> None:
    """A pair of one name, or the same pair the other way round, is another pair of images."""
    other = tmp_path / "other.h5"
    write_random_features(other, NAMES[:2], 60, seed=0)
    lines = [(NAMES[0], NAMES[0]), (NAMES[0], NAMES[1]), (NAMES[1], NAMES[0])]
    write_pairs(tmp_path / "pairs.txt", lines)
    arguments = ("NN-mutual", tmp_path / "pairs.txt", features, tmp_path)
    assert match_features(*arguments, features_ref=other).num_matched == 3
    assert match_features(*arguments, features_ref=other).num_present == 3


def test_the_feature_file_is_never_the_match_file(features: Path, pairs: Path) -> None:
    with pytest.raises(ValueError, match="cannot be written to the feature file"):
        match_features("NN-mutual", pairs, features, matches=features, overwrite=True)
    with FeatureReader(features) as reader:
        assert reader.names() == NAMES


def test_hlocs_features_made_anew_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "feats-hloc.h5"
    write_pairs(tmp_path / "pairs.txt", [("a.jpg", "b.jpg")])
    for num in (50, 80):
        with h5py.File(path, "w") as file:
            for name in ("a.jpg", "b.jpg"):
                file[f"{name}/keypoints"] = np.zeros((num, 2))
                file[f"{name}/descriptors"] = np.eye(128)[:, :num]
        if num == 50:
            match_features("NN-mutual", tmp_path / "pairs.txt", path, tmp_path)
    with pytest.raises(ValueError, match=r"was made from other features"):
        match_features("NN-mutual", tmp_path / "pairs.txt", path, tmp_path)


def test_pairs_in_the_file_and_repeated_ones_are_not_matched_again(
    features: Path, tmp_path: Path
) -> None:
    lines = [(NAMES[0], NAMES[1]), (NAMES[1], NAMES[0]), (NAMES[0], NAMES[0])]
    write_pairs(tmp_path / "pairs.txt", lines)
    first = match_features("NN-mutual", tmp_path / "pairs.txt", features, tmp_path)
    write_pairs(tmp_path / "pairs.txt", [*lines, (NAMES[2], NAMES[0])])
    second = match_features("NN-mutual", tmp_path / "pairs.txt", features, tmp_path)
    assert (first.num_matched, second.num_matched, second.num_present) == (1, 1, 1)


def test_a_pair_of_a_missing_image_is_skipped_and_named(features: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", [(NAMES[0], "gone.jpg"), (NAMES[0], NAMES[1])])
    summary = match_features("NN-mutual", tmp_path / "pairs.txt", features, tmp_path)
    assert summary.num_matched == 1
    assert summary.skipped == {"gone.jpg": "the image 'gone.jpg' of 1 pairs has no features"}
    write_pairs(tmp_path / "none.txt", [(NAMES[0], "gone.jpg")])
    with pytest.raises(ValueError, match=r"None of the 1 pairs .* missing is 'gone.jpg'"):
        match_features("NN-mutual", tmp_path / "none.txt", features, tmp_path)


def test_every_form_of_a_name_is_matched_as_one_image(
    features: Path, pairs: Path, tmp_path: Path
) -> None:
    expected = read_all(match_features("NN-mutual", pairs, features, tmp_path).match_path)
    lines = [" ".join(f"./{name}" for name in pair) for pair in combinations(NAMES, 2)]
    other = tmp_path / "other.txt"
    other.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    found = read_all(match_features("NN-mutual", other, features, tmp_path).match_path)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def test_a_name_with_nul_is_rejected_and_the_matches_stay(features: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(f"{NAMES[0]} {NAMES[1]}\n")
    match_path = match_features("NN-mutual", path, features, tmp_path).match_path
    before = match_path.read_bytes()
    path.write_text(f"{NAMES[0]}\0 {NAMES[1]}\n")
    with pytest.raises(ValueError, match=r"pairs.txt, line 1: .*save it as plain text"):
        match_features("NN-mutual", path, features, tmp_path)
    assert match_path.read_bytes() == before


def test_a_list_of_pairs_of_an_image_with_itself_is_rejected(
    features: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(f"{NAMES[0]} {NAMES[0]}\n{NAMES[1]} ./{NAMES[1]}\n")
    for features_ref in (None, features):
        with pytest.raises(ValueError, match=r"pairs.txt has only pairs of an image with itself"):
            match_features("NN-mutual", path, features, tmp_path, features_ref=features_ref)


def test_a_name_in_another_unicode_form_has_a_hint(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))
    write_random_features(tmp_path / "feats.h5", ["a.jpg", "b.jpg", decomposed], 5)
    write_pairs(tmp_path / "pairs.txt", [("a.jpg", "b.jpg"), ("a.jpg", composed)])
    summary = match_features("NN-mutual", tmp_path / "pairs.txt", tmp_path / "feats.h5", tmp_path)
    assert ascii(decomposed) in summary.skipped[composed]
    assert "write the list from the names of the files" in summary.skipped[composed]


def with_other_descriptors(features: Path, path: Path, name: str, other: np.ndarray) -> Path:
    """Copy a feature file as hloc would write it, with other descriptors of an image."""
    with h5py.File(features, "r") as ours, h5py.File(path, "w") as file:
        for image in NAMES[:4]:
            for key in ("keypoints", "descriptors", "scores", "image_size"):
                file[f"{image}/{key}"] = ours[image][key][()]
        del file[name]["descriptors"]
        file[name]["descriptors"] = other
    return path


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (np.full((128, 60), np.nan, np.float16), "descriptors must be finite"),
        (np.zeros((60, 128), np.float16), "N×D and must be transposed"),
        (np.zeros((128, 61), np.float16), "descriptors must be D×60"),
        (np.zeros((128, 60), complex), "real numbers"),
    ],
)
def test_an_image_that_cannot_be_used_is_skipped_and_the_others_are_matched(
    features: Path, pairs: Path, whole: Path, tmp_path: Path, other: np.ndarray, reason: str
) -> None:
    foreign = with_other_descriptors(features, tmp_path / "theirs.h5", NAMES[1], other)
    write_pairs(tmp_path / "pairs.txt", combinations(NAMES[:4], 2))
    summary = match_features("NN-ratio", tmp_path / "pairs.txt", foreign)
    assert summary.num_matched == 3
    assert list(summary.skipped) == [NAMES[1]]
    assert re.search(rf"theirs\.h5.*{NAMES[1]}.*{reason}", summary.skipped[NAMES[1]])
    with MatchReader(summary.match_path) as found, MatchReader(whole) as expected:
        assert (NAMES[0], NAMES[1]) not in found
        for pair in combinations((NAMES[0], *NAMES[2:4]), 2):
            np.testing.assert_array_equal(found.read(*pair)[0], expected.read(*pair)[0])
    write_pairs(tmp_path / "one.txt", [(NAMES[0], NAMES[1])])
    with pytest.raises(ValueError, match=rf"None of the 1 pairs.*theirs\.h5.*{reason}"):
        match_features("NN-ratio", tmp_path / "one.txt", foreign)


def test_a_pair_of_two_features_is_skipped(features: Path, tmp_path: Path) -> None:
    other = np.ones((64, 60), np.float16)
    foreign = with_other_descriptors(features, tmp_path / "theirs.h5", NAMES[1], other)
    write_pairs(tmp_path / "pairs.txt", combinations(NAMES[:3], 2))
    summary = match_features("NN-ratio", tmp_path / "pairs.txt", foreign)
    assert summary.num_matched == 1
    assert set(summary.skipped) == {f"{NAMES[0]} {NAMES[1]}", f"{NAMES[1]} {NAMES[2]}"}
    assert "128 and 64 dimensions; extract" in summary.skipped[f"{NAMES[0]} {NAMES[1]}"]


@pytest.mark.parametrize("failure", ["an exception", "scores of NaN"])
def test_a_pair_that_a_matcher_fails_for_is_skipped(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    matcher = FeatureMatcher("NN-ratio")
    original, calls = matcher.matcher.match, []

    def fail_at_first(*data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        calls.append(data)
        result = original(*data)
        if len(calls) > 1:
            return result
        if failure == "an exception":
            raise IndexError("index 7 is out of bounds")
        return result | {"matching_scores0": result["matching_scores0"] * float("nan")}

    monkeypatch.setattr(matcher.matcher, "match", fail_at_first)
    write_pairs(tmp_path / "pairs.txt", combinations(NAMES[:3], 2))
    summary = match_features(matcher, tmp_path / "pairs.txt", features, tmp_path)
    assert summary.num_matched == 2
    ((pair, reason),) = summary.skipped.items()
    assert all(name in reason for name in pair.split())
    again = match_features("NN-ratio", tmp_path / "pairs.txt", features, tmp_path)
    assert (again.num_matched, again.num_present, again.skipped) == (1, 2, {})


def test_matches_of_other_features_or_another_matcher_are_not_mixed(
    features: Path, pairs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "matches.h5"
    match_features("NN-ratio", pairs, features, matches=path)
    with pytest.raises(ValueError, match=r"ratio_threshold = 0.8, .* None;"):
        match_features("NN-mutual", pairs, features, matches=path)
    other = tmp_path / "feats.h5"
    write_random_features(other, NAMES, 10, seed=1)
    with pytest.raises(ValueError, match=r"other features"):
        match_features("NN-ratio", pairs, other, matches=path)


def test_images_without_keypoints_have_no_matches(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    write_random_features(path, ["full.jpg"], 5)
    with FeatureWriter(path, Provenance("features", {"seed": 0})) as writer:
        empty = {
            "keypoints": np.zeros((0, 2), np.float32),
            "scores": np.zeros(0, np.float32),
            "descriptors": np.zeros((128, 0), np.float16),
        }
        writer.write("empty.jpg", empty, (640, 480), 1.0, "")
    write_pairs(tmp_path / "pairs.txt", [("full.jpg", "empty.jpg")])
    for name in ("NN-mutual", "NN-ratio", "NN-mutual-l2", "NN-hamming"):
        summary = match_features(name, tmp_path / "pairs.txt", path, tmp_path)
        assert read_all(summary.match_path)["full.jpg/empty.jpg/matches0"].tolist() == [-1] * 5


def test_missing_inputs_are_named(features: Path, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no pair list .*nowhere.txt"):
        match_features("NN-mutual", tmp_path / "nowhere.txt", features)
    with pytest.raises(FileNotFoundError, match=r"no feature file .*feats-x.h5; extract"):
        match_features("NN-mutual", pairs, "feats-x", tmp_path)
    with pytest.raises(ValueError, match="no matcher 'NN'; there are NN-mutual"):
        match_features("NN", pairs, features)
    conf = matcher_conf("NN-mutual")
    conf["model"]["name"] = "nobody"
    with pytest.raises(ValueError, match="nobody"):
        match_features(conf, pairs, features, tmp_path)


def _match(pairs: Path, features: Path, path: Path) -> None:
    match_store.CHUNK_SECONDS = 0.01  # write often, so that kills find work done
    match_features("NN-ratio", pairs, features, matches=path)


@pytest.mark.slow
def test_killed_at_random_instants_it_loses_nothing(
    features: Path, pairs: Path, whole: Path, tmp_path: Path
) -> None:
    killer = Killer([match_module.__name__, "featplug.matchers.nearest_neighbor"])
    rng = random.Random(0)
    path = tmp_path / "killed.h5"
    survived = [0]
    for _ in range(8):
        killer.kill(_match, (pairs, features, path), path, rng.uniform(0, 0.02))
        with MatchReader(path):
            content = read_all(path)
        assert sum("matches0" in name for name in content) * 2 == len(content)
        survived.append(len(content) // 2)
    assert survived == sorted(survived)
    assert killer.num_hits > 0
    rest = match_features("NN-ratio", pairs, features, matches=path)
    assert rest.num_present == survived[-1]
    assert_same_content(path, whole)


def test_many_keypoints_are_guided_and_a_run_resumes(tmp_path: Path) -> None:
    names = NAMES[:3]
    features, listed = tmp_path / "feats.h5", list(combinations(names, 2))
    write_random_features(features, names, 300)
    all_pairs, first = tmp_path / "all" / "pairs.txt", tmp_path / "first" / "pairs.txt"
    for path, pairs in ((all_pairs, listed), (first, listed[:1])):
        path.parent.mkdir()
        write_pairs(path, pairs)
    one, two, plain = (tmp_path / name for name in ("one.h5", "two.h5", "plain.h5"))
    match_features("NN-ratio", all_pairs, features, matches=one, strongest=100)
    match_features("NN-ratio", first, features, matches=two, strongest=100)
    summary = match_features("NN-ratio", all_pairs, features, matches=two, strongest=100)
    assert (summary.num_present, summary.num_matched) == (1, 2)
    assert_same_content(one, two)
    # Keypoints at random places have no geometry: the strongest alone are matched.
    match_features("NN-ratio", all_pairs, features, matches=plain, strongest=-1)
    with MatchReader(one) as guided, MatchReader(plain) as whole:
        for pair in listed:
            assert 0 < len(guided.read(*pair)[0]) <= 100 < len(whole.read(*pair)[0])
    with pytest.raises(ValueError, match=r"one\.h5 .*strongest.*overwrite"):
        match_features("NN-ratio", all_pairs, features, matches=one, strongest=50)
