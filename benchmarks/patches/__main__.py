"""``python -m benchmarks.patches``: compare descriptors on patches that are given.

Folders are told apart by what is in them: UBC PhotoTour (FPR95), HPatches' patches (verification,
matching and retrieval) or RomePatches (retrieval).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.patches.dataset import PatchSet
from benchmarks.patches.described import describe
from benchmarks.patches.descriptors import PatchDescriptor, load_descriptor
from benchmarks.patches.hpatches import HPatches
from benchmarks.patches.phototour import PhotoTour
from benchmarks.patches.romepatches import RomePatches
from benchmarks.published import Comparison, compare
from benchmarks.record import Problem, Row, Run, write_run
from featplug.cli import run_command
from featplug.results import StageRecorder, data_fingerprint

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
    datasets: Sequence[Path],
    features: Sequence[str],
    options: SetOptions,
    weights: dict[str, str],
    outputs: Path | None = None,
    device: str | None = None,
    progress: bool = False,
) -> Run:
    """Measure descriptors on sets; what cannot be measured becomes a problem.

    Args:
        datasets: folders.
        features: names; see :func:`~.descriptors.load_descriptor`.
        options: how sets are read.
        weights: of some of the features.
        outputs: folder that keeps the descriptors; None keeps nothing.
        device: of torch.
        progress: show bars.
    """
    result = Run(
        BENCHMARK,
        options={
            "datasets": [str(folder) for folder in datasets],
            "features": list(features),
            "split": options.split,
            "tasks": None if options.tasks is None else str(options.tasks),
            "num_distractors": options.num_distractors,
            "weights": weights,
        },
        data={},
    )
    sets: list[PatchSet] = []
    for folder in (inside for dataset in datasets for inside in set_folders(dataset)):
        try:
            patch_set = open_set(folder, options)
            _add_data(result.data, patch_set)
            sets.append(patch_set)
            result.problems += patch_set.problems
        except (ValueError, OSError) as error:
            result.problems.append(Problem(str(folder), str(error)))
    for name in features:
        try:
            descriptor = load_descriptor(name, weights.get(name), device)
        except (ValueError, OSError) as error:
            result.problems.append(Problem(name, str(error)))
            continue
        for patch_set in sets:
            try:
                result.rows += measure(descriptor, patch_set, outputs, progress)
            except (ValueError, OSError) as error:
                result.problems.append(Problem(f"{name} on {patch_set.name}", str(error)))
    return result


def _add_data(data: dict[str, dict[str, Any]], patch_set: PatchSet) -> None:
    if patch_set.name in data:
        raise ValueError(f"There are two sets {patch_set.name}; measure them in two runs.")
    data[patch_set.name] = {
        "path": str(patch_set.folder.resolve()),
        "fingerprint": data_fingerprint(patch_set.folder, patch_set.files()),
    }


def table(result: Run) -> str:
    """Lay out a run for the console: a line for each row, published numbers below."""
    lines: list[str] = []
    for dataset in result.data:
        rows = [row for row in result.rows if row.dataset == dataset]
        metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
        parts = list(dict.fromkeys(row.part for row in rows))
        widths = {name: max(len(name) + 2, 10) for name in metrics}
        heads = "".join(f"{name:>{width}}" for name, width in widths.items())
        lines += [dataset, f"  {'':<34}{heads}"]
        for part in parts:
            for row in (row for row in rows if row.part == part):
                values = {name: f"{entry['value']:.4f}" for name, entry in row.metrics.items()}
                cells = "".join(f"{values.get(name, ''):>{n}}" for name, n in widths.items())
                lines.append(f"  {row.feature:<18}{part:<16}{cells}".rstrip())
        lines += _published_lines(result, rows)
    return "\n".join(lines)


def _published_lines(result: Run, rows: Sequence[Row]) -> list[str]:
    """Say how rows compare with what was published, and once for each reason why not."""
    comparisons = [
        (row, comparison)
        for row in rows
        for comparison in compare(result.benchmark, row, result.options)
    ]
    lines = [
        f"  {row.feature} {row.part} {_comparison_text(comparison)}"
        for row, comparison in comparisons
        if comparison.reason is None
    ]
    reasons = dict.fromkeys(
        reason
        for reason in (
            *(row.not_comparable for row in rows),
            *(comparison.reason for _, comparison in comparisons),
        )
        if reason
    )
    return lines + [f"  not compared with published numbers: {reason}" for reason in reasons]


def _comparison_text(comparison: Comparison) -> str:
    published = comparison.published
    network = f" ({published.variant})" if published.variant else ""
    caveat = f" {comparison.caveat}" if comparison.caveat else ""
    unit = " %" if published.unit == "%" else ""
    return (
        f"{comparison.metric}: {comparison.ours:.4g}{unit}, published {published.value:g}{unit}"
        f"{network}, difference {comparison.difference:+.2g} [{published.source}, "
        f"{published.table}]{caveat}"
    )


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
    repeated = [name for name in feature if feature.count(name) > 1]
    if repeated:
        raise ValueError(f"{repeated[0]} is among the features twice; name it once.")
    unused = [name for name, _ in weights if name not in feature]
    if unused:
        raise ValueError(f"There are weights for {unused[0]}, which is not among the features.")
    if num_distractors is not None and num_distractors < 1:
        raise ValueError(f"num_distractors must be 1 or more, not {num_distractors}.")
    options = SetOptions(split, tasks, num_distractors)
    result = run(
        dataset, feature, options, dict(weights), outputs / "descriptors", device, progress=True
    )
    if not result.rows:
        raise ValueError(" ".join(f"{p.subject}: {p.reason}" for p in result.problems))
    write_run(outputs, result)
    print(table(result))
    for problem in result.problems:
        print(f"not measured: {problem.subject}: {problem.reason}")
    print(f"all figures are in {outputs / 'results.json'}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.patches")
