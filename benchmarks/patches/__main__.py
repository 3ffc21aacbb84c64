"""``python -m benchmarks.patches``: compare descriptors on patches that are given.

Folders are told apart by what is in them: UBC PhotoTour (FPR95), HPatches' patches (verification,
matching and retrieval) or RomePatches (retrieval).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.choices import FAILURES, choose_features, problem_of
from benchmarks.console import NOTHING, conclude, table_lines
from benchmarks.patches.dataset import PatchSet
from benchmarks.patches.described import describe
from benchmarks.patches.descriptors import PatchDescriptor, load_descriptor
from benchmarks.patches.hpatches import HPatches
from benchmarks.patches.phototour import PhotoTour
from benchmarks.patches.romepatches import RomePatches
from benchmarks.record import Row, Run, write_run
from featplug.cli.runner import run_command
from featplug.io.results import StageRecorder, data_fingerprint
from pipelines.run import plain

BENCHMARK = "patches"


@dataclass(frozen=True)
class SetOptions:
    """How sets are read."""

    split: str = "a"
    """Of HPatches: a, b, c, illum, view or full."""
    tasks: Path | None = None
    """Folder of HPatches' lists; by default ``tasks`` in the set's folder, beside it or above."""
    num_distractors: int | None = None
    """Of HPatches' retrieval, the first of their list; all by default."""


def set_folders(folder: Path) -> list[Path]:
    """Give the folders of PhotoTour's sets, such as liberty, that a folder holds, or itself."""
    if (folder / "info.txt").is_file():
        return [folder]
    return sorted(file.parent for file in folder.glob("*/info.txt")) or [folder]


def open_set(folder: Path, options: SetOptions) -> PatchSet:
    """Open the set that a folder holds.

    Raises:
        FileNotFoundError: there is no such folder, or files of the set are missing.
        ValueError: it holds no set that is known, or a list is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    if (folder / "info.txt").is_file():
        return PhotoTour(folder)
    if any(folder.glob("patch_retrieval_Rome_*.mat")):
        return RomePatches(folder)
    if any(folder.glob("*/ref.png")):
        return HPatches(folder, options.split, options.tasks, options.num_distractors)
    raise ValueError(
        f"{folder} holds no set of patches: neither info.txt (PhotoTour), nor SEQUENCE/ref.png "
        "(HPatches), nor patch_retrieval_Rome_train.mat."
    )


def measure(
    descriptor: PatchDescriptor,
    patch_set: PatchSet,
    outputs: Path | None = None,
    progress: bool = False,
) -> list[Row]:
    """Measure one descriptor on one set.

    Args:
        descriptor: what describes patches.
        patch_set: the set.
        outputs: folder that keeps the descriptors; None keeps nothing.
        progress: show a bar.

    Returns:
        A row for each part of the set.

    Raises:
        FileNotFoundError: a file of patches is missing.
        ValueError: one is damaged, or the descriptor is no good.
    """
    recorder = StageRecorder()
    with recorder.stage("describe"):
        descriptors, num_kept = describe(descriptor, patch_set, outputs, progress)
    if num_kept > 0:
        del recorder.stages["describe"]  # it is not the time that all patches take
    with recorder.stage("measure"):
        parts = patch_set.measure(descriptors)
    return [
        Row(
            feature=descriptor.name,
            dataset=patch_set.name,
            protocol=patch_set.protocol,
            part=part,
            weights=descriptor.weights,
            metrics=metrics,
            stages=recorder.stages,
            not_comparable=patch_set.not_comparable,
        )
        for part, metrics in parts.items()
        if metrics
    ]


def run(
    dataset: Sequence[Path],
    feature: Sequence[str],
    options: SetOptions,
    weights: Mapping[str, str],
    outputs: Path,
    device: str | None = None,
    progress: bool = False,
) -> Run:
    """Measure descriptors on sets; what cannot be measured becomes a problem.

    The record in the output folder is written anew after each feature.

    Args:
        dataset: folders.
        feature: names; see :func:`~.descriptors.load_descriptor`.
        options: how sets are read.
        weights: of some of the features.
        outputs: gets the record, and the descriptors.
        device: of torch.
        progress: show bars.

    Raises:
        ValueError: there are weights for a feature that was not asked for.
    """
    features, problems = choose_features(feature, weights, check=None)
    asked = {"dataset": dataset, "feature": feature, **asdict(options), "weights": weights}
    result = Run(BENCHMARK, plain(asked), {}, [], problems)
    sets: list[PatchSet] = []
    for folder in (inside for each in dataset for inside in set_folders(each)):
        try:
            patch_set = open_set(folder, options)
            _add_data(result.data, patch_set)
            sets.append(patch_set)
            result.problems += patch_set.problems
        except FAILURES as error:
            result.problems.append(problem_of(str(folder), error))
    for name in features:
        try:
            descriptor = load_descriptor(name, weights.get(name), device)
        except FAILURES as error:
            result.problems.append(problem_of(name, error))
            continue
        for patch_set in sets:
            try:
                result.rows += measure(descriptor, patch_set, outputs / "descriptors", progress)
            except FAILURES as error:
                result.problems.append(problem_of(f"{name} on {patch_set.name}", error))
        write_run(outputs, result)
    write_run(outputs, result)
    return result


def _add_data(data: dict[str, dict[str, Any]], patch_set: PatchSet) -> None:
    if patch_set.name in data:
        raise ValueError(f"There are two sets {patch_set.name}; measure them in two runs.")
    data[patch_set.name] = {
        "path": str(patch_set.folder.resolve()),
        "fingerprint": data_fingerprint(patch_set.folder, patch_set.files()),
    }


def table(result: Run) -> list[str]:
    """Lay out a run for the console: of each set a line for each part and feature."""
    lines = []
    for dataset in result.data:
        rows = [row for row in result.rows if row.dataset == dataset]
        metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
        cells = [["part", "feature", *metrics]]
        for part in dict.fromkeys(row.part for row in rows):
            for row in (row for row in rows if row.part == part):
                values = {name: f"{entry['value']:.4f}" for name, entry in row.metrics.items()}
                cells.append([part, row.feature, *(values.get(n, NOTHING) for n in metrics)])
        lines += ["", dataset, *table_lines(cells, "<<")]
    return lines


def main(
    dataset: tuple[Path, ...],
    feature: tuple[str, ...] = ("sift",),
    outputs: Path = Path("outputs/patches"),
    split: str = "a",
    tasks: Path | None = None,
    num_distractors: int | None = None,
    weights: tuple[tuple[str, str], ...] = (),
    device: str | None = None,
) -> None:
    """Measure descriptors on the patches of UBC PhotoTour, HPatches and RomePatches.

    Args:
        dataset: folders of sets, told apart by their files.
        feature: sift, rootsift, confs whose network describes patches (doap, doap-binary, doap-st,
            contextdesc …), or MODULE:FUNCTION from patches N×H×W uint8 to descriptors N×D.
        outputs: gets results.json, and the descriptors, so that a run that is stopped can go on.
        split: of HPatches.
        tasks: folder of HPatches' lists; by default ``tasks`` in the set's folder, beside it or
            above.
        num_distractors: of HPatches' retrieval, the first of their list; all by default.
        weights: names of features and the weights of each, ``official``, ``featplug`` or a file,
            such as ``--weights doap doap_liberty.safetensors``.
        device: of torch; the fastest one by default.
    """
    if num_distractors is not None and num_distractors < 1:
        raise ValueError(f"num_distractors must be 1 or more, not {num_distractors}.")
    options = SetOptions(split, tasks, num_distractors)
    result = run(dataset, feature, options, dict(weights), outputs, device, progress=True)
    conclude(result, outputs, table(result))


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.patches")
