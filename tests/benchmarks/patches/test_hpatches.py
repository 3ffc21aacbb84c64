"""HPatches' three tasks, compared with loops over their lists and scikit-learn."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from benchmarks.patches import hpatches
from benchmarks.patches.hpatches import KINDS, HPatches
from featplug.weights.checkpoints import git_blob_id


@pytest.fixture
def folder(sets: Path, tmp_path: Path) -> Path:
    """A copy of the set."""
    return Path(shutil.copytree(sets / "hpatches", tmp_path / "hpatches"))


def described(patch_set: HPatches, seed: int = 0) -> dict[tuple[str, str, int], np.ndarray]:
    """Random descriptors, those of one surface somewhat alike, by sequence, file and patch."""
    rng = np.random.default_rng(seed)
    table = {}
    for sequence, size in patch_set.sizes.items():
        surfaces = rng.normal(size=(size, 8))
        for kind in KINDS:
            for patch in range(size):
                noise = {"r": 0.0, "e": 0.6, "h": 0.9, "t": 1.3}[kind[0]]
                descriptor = surfaces[patch] + noise * rng.normal(size=8)
                table[sequence, kind, patch] = descriptor.astype(np.float32)
    return table


def read(patch_set: HPatches, name: str) -> list[dict[str, str]]:
    with (patch_set.tasks / f"{name}_split-a.csv").open() as file:
        return list(csv.DictReader(file))


def kind(level: str, image: str) -> str:
    return "ref" if image == "0" else f"{level[0]}{image}"


def test_figures_are_those_of_the_lists(sets: Path) -> None:
    patch_set = HPatches(sets / "hpatches")
    table = described(patch_set)
    parts = patch_set.measure(np.stack(list(table.values())))

    def distance(row: dict[str, str], level: str) -> float:
        ends = [table[row[f"s{i}"], kind(level, row[f"t{i}"]), int(row[f"idx{i}"])] for i in (1, 2)]
        return float(np.linalg.norm(ends[0] - ends[1]))

    means = []
    for level in ("easy", "hard", "tough"):
        positives = [distance(row, level) for row in read(patch_set, "verif_pos")]
        both = []
        for negatives in ("inter", "intra"):
            others = [distance(row, level) for row in read(patch_set, f"verif_neg_{negatives}")]
            chosen = positives[: len(others) // 5]
            labels = np.arange(len(chosen) + len(others)) < len(chosen)
            both.append(average_precision_score(labels, -np.array(chosen + others)))
            value = parts[f"{negatives}-{level}"]["verification_map"]["value"]
            assert value == pytest.approx(both[-1], abs=1e-6)
        means.append(np.mean(both))
        assert parts[level]["verification_map"]["value"] == pytest.approx(means[-1], abs=1e-6)

        matching: dict[str, list[float]] = {"illumination": [], "viewpoint": []}
        for sequence, size in patch_set.sizes.items():
            for image in "12345":
                reference, others = (
                    np.stack([table[sequence, k, patch] for patch in range(size)])
                    for k in ("ref", kind(level, image))
                )
                apart = np.linalg.norm(reference[:, None] - others, axis=2)
                right = apart.argmin(1) == np.arange(size)
                ranked = average_precision_score(right, -apart.min(1)) if right.any() else 0
                change = {"i": "illumination", "v": "viewpoint"}[sequence[0]]
                matching[change].append(ranked * right.sum() / size)
        for change, values in matching.items():
            value = parts[f"{change}-{level}"]["matching_map"]["value"]
            assert value == pytest.approx(np.mean(values), abs=1e-6)
        everything = np.mean(np.concatenate([*matching.values()]))
        assert parts[level]["matching_map"]["value"] == pytest.approx(everything, abs=1e-6)

        precisions = []
        distractors = read(patch_set, "retr_distractors")
        for query in read(patch_set, "retr_queries"):
            sequence, patch = query["s"], int(query["idx"])
            candidates = [table[sequence, kind(level, image), patch] for image in "12345"] + [
                table[row["s"], "ref", int(row["idx"])]
                for row in distractors
                if row["s"] != sequence
            ]
            apart = np.linalg.norm(np.stack(candidates) - table[sequence, "ref", patch], axis=1)
            precisions.append(average_precision_score(np.arange(len(apart)) < 5, -apart))
        value = parts[level]["retrieval_map"]["value"]
        assert value == pytest.approx(np.mean(precisions), abs=1e-6)
    assert parts["all"]["verification_map"]["value"] == pytest.approx(np.mean(means), abs=1e-6)


def test_perfect_descriptors_make_no_mistake(sets: Path) -> None:
    patch_set = HPatches(sets / "hpatches")
    surfaces = [(sequence, patch) for sequence, _, patch in described(patch_set)]
    number = {surface: i for i, surface in enumerate(dict.fromkeys(surfaces))}
    parts = patch_set.measure(np.eye(len(number), dtype=np.float32)[[number[s] for s in surfaces]])
    for metrics in parts.values():
        assert [entry["value"] for entry in metrics.values()] == [1.0] * len(metrics)


def test_patches_come_in_the_order_of_their_descriptors(sets: Path) -> None:
    patch_set = HPatches(sets / "hpatches")
    everything = np.concatenate(list(patch_set.patches()))
    assert len(everything) == patch_set.num_patches()
    size = patch_set.sizes["i_light"]
    column = np.asarray(Image.open(sets / "hpatches" / "v_turned" / "h2.png"))
    row = size * 16 + KINDS.index("h2") * patch_set.sizes["v_turned"] + 3
    np.testing.assert_array_equal(everything[row], column[3 * 65 : 4 * 65])


def test_fewer_distractors_are_the_first_of_the_list(sets: Path) -> None:
    patch_set = HPatches(sets / "hpatches", num_distractors=1)
    descriptors = np.stack(list(described(patch_set).values()))
    fewer = patch_set.measure(descriptors)["tough"]["retrieval_map"]["value"]
    everything = HPatches(sets / "hpatches").measure(descriptors)["tough"]["retrieval_map"]["value"]
    assert fewer > everything


def test_only_the_published_lists_are_comparable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HPatches(folder).not_comparable == ("verif_pos_split-a.csv is not the published list.")
    ids = {name: git_blob_id(folder / f"tasks/{name}_split-a.csv") for name in hpatches.LISTS}
    monkeypatch.setattr(hpatches, "PUBLISHED_LISTS", {"a": ids})
    assert HPatches(folder).not_comparable is None
    num = len(read(HPatches(folder), "retr_distractors"))
    assert HPatches(folder, num_distractors=num - 1).not_comparable == (
        f"Retrieval is among {num - 1} of the {num} distractors."
    )
    for as_published in (num, hpatches.TOOLBOX_DISTRACTORS):
        assert HPatches(folder, num_distractors=as_published).not_comparable is None
    shutil.rmtree(folder / "i_light")
    assert HPatches(folder).not_comparable == "1 of 2 sequences."


def test_a_missing_or_damaged_sequence_is_named_and_the_rest_measured(folder: Path) -> None:
    (folder / "v_turned" / "h3.png").unlink()
    patch_set = HPatches(folder)
    assert list(patch_set.sizes) == ["i_light"]
    problem, without_pairs = patch_set.problems
    assert problem.subject == "hpatches-patches v_turned"
    assert problem.reason.endswith("h3.png is missing.")
    assert without_pairs.subject == "hpatches-patches verif_neg_inter"
    parts = patch_set.measure(np.stack(list(described(patch_set).values())))
    assert "illumination-easy" in parts
    assert "viewpoint-easy" not in parts
    assert set(parts["all"]) == {"matching_map", "retrieval_map"}

    Image.fromarray(np.zeros((650, 64), np.uint8)).save(folder / "v_turned" / "h3.png")
    problem = HPatches(folder).problems[0]
    assert "has 64×650 pixels, not a column of 65×65" in problem.reason
    Image.fromarray(np.zeros((130, 65), np.uint8)).save(folder / "v_turned" / "h3.png")
    problem = HPatches(folder).problems[0]
    assert "h3.png has 2 patches, but ref.png has 10" in problem.reason
    shutil.rmtree(folder / "i_light")
    with pytest.raises(ValueError, match="hpatches"):
        HPatches(folder)


def test_a_missing_list_leaves_the_other_tasks(folder: Path) -> None:
    (folder / "tasks" / "retr_queries_split-a.csv").unlink()
    (folder / "tasks" / "verif_neg_intra_split-a.csv").write_text("s1,t1,idx1\n")
    patch_set = HPatches(folder)
    assert [problem.subject for problem in patch_set.problems] == [
        "hpatches-patches verif_neg_intra",
        "hpatches-patches retr_queries",
    ]
    assert "expected the first line 's1,t1,idx1,s2,t2,idx2'" in patch_set.problems[0].reason
    parts = patch_set.measure(np.stack(list(described(patch_set).values())))
    assert set(parts["all"]) == {"matching_map"}


def test_bad_lists_are_named(folder: Path, tmp_path: Path) -> None:
    queries = folder / "tasks" / "retr_queries_split-a.csv"
    queries.write_text("s,idx\ni_light,3\nv_turned,10\n")
    with pytest.raises(ValueError, match=r"split-a.csv.*v_turned"):
        HPatches(folder)
    queries.write_text("s,idx\ni_light,three\n")
    assert "line 2: expected 2 whole numbers" in HPatches(folder).problems[0].reason
    with pytest.raises(FileNotFoundError, match="illum"):
        HPatches(folder, "illum")
    shutil.move(folder / "tasks", tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="--tasks"):
        HPatches(folder)
    queries = tmp_path / "other" / "retr_queries_split-a.csv"
    queries.write_text("s,idx\n" + "i_light,3\n" * 5)
    assert HPatches(folder, tasks=tmp_path / "other").problems == []
