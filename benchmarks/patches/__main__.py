"""``python -m benchmarks.patches --dataset DIR [DIR …] --feature NAME [NAME …]``.

Descriptors are compared on the patches of UBC PhotoTour (FPR95), HPatches (verification, matching
and retrieval) and RomePatches (retrieval), whose folders are recognised by their files.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from benchmarks.choices import FAILURES, BenchmarkOptions, in_turn, problem_of, start_run
from benchmarks.console import NOTHING, conclude, table_lines
from benchmarks.patches.dataset import PatchSet
from benchmarks.patches.described import describe
from benchmarks.patches.descriptors import PatchDescriptor, load_descriptor
from benchmarks.patches.hpatches import HPatches
from benchmarks.patches.phototour import PhotoTour
from benchmarks.patches.romepatches import RomePatches
from benchmarks.record import Row, Run, benchmark_folder, write_run
from featplug.cli.command_line import Unprefixed, leave_config, run_command
from featplug.io.results import StageRecorder
from pipelines.run_options import require_positive


@dataclass(frozen=True)
class PatchOptions(BenchmarkOptions):
    """Sets of patches, and the descriptors to compare on them."""

    benchmark: ClassVar[str] = "patches"

    dataset: tuple[Path, ...]
    """Folders of the sets, which are recognised by their files."""
    feature: tuple[str, ...] = field(default=("sift",), kw_only=True)
    """Names of the descriptors: sift, rootsift, features whose network describes patches (doap,
    doap-binary, doap-st, contextdesc …), or MODULE:FUNCTION or FILE.py:FUNCTION from patches N×H×W
    uint8 to descriptors N×D."""
    split: str = "a"
    """Split of HPatches: a, b, c, illum, view or full."""
    tasks: Path | None = None
    """Folder of HPatches' lists; by default tasks in the set's folder or up to two above it."""
    num_distractors: int | None = None
    """Number of distractors in HPatches' retrieval, the first of their list; by default all."""


def set_folders(folder: Path) -> list[Path]:
    """Return the folders of PhotoTour's sets in a folder, such as liberty, or the folder itself."""
    if (folder / "info.txt").is_file():
        return [folder]
    return sorted(file.parent for file in folder.glob("*/info.txt")) or [folder]


def open_set(folder: Path, options: PatchOptions) -> PatchSet:
    """Open the set in a folder.

    Raises:
        FileNotFoundError: the folder does not exist, or files of the set are missing.
        ValueError: the folder has no known set, or a list is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    if (folder / "info.txt").is_file():
        return PhotoTour(folder)
    if any(folder.glob("patch_retrieval_Rome_*.mat")):
        return RomePatches(folder)
    if any(folder.glob("*/ref.png")):
        return HPatches(folder, options.split, options.tasks, options.num_distractors)
    raise ValueError(
        f"{folder} has no set of patches: neither info.txt (PhotoTour), nor SEQUENCE/ref.png "
        "(HPatches), nor patch_retrieval_Rome_train.mat."
    )


def measure(
    descriptor: PatchDescriptor,
    patch_set: PatchSet,
    outputs: Path | None = None,
    progress: bool = False,
) -> list[Row]:
    """Measure one descriptor on one set, and return a row for each part of the set.

    ``outputs`` is the folder that keeps the descriptors; None keeps nothing.

    Raises:
        FileNotFoundError: a file of patches is missing.
        ValueError: a file is damaged, or the descriptors are not finite vectors of one length.
    """
    recorder = StageRecorder()
    with recorder.stage("describe"):
        descriptors, num_kept = describe(descriptor, patch_set, outputs, progress)
    if num_kept > 0:
        del recorder.stages["describe"]  # which took less time than all patches take
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


def measure_all(options: PatchOptions, progress: bool = False) -> Run:
    """Measure descriptors on sets; what fails becomes a problem of the run.

    Raises:
        ValueError: the request itself does not fit.
    """
    require_positive(num_distractors=options.num_distractors)
    features, run = start_run(options, str)
    sets: list[PatchSet] = []
    for folder in (inside for each in options.dataset for inside in set_folders(each)):
        try:
            patch_set = open_set(folder, options)
            run.add_data(patch_set.name, patch_set.folder, patch_set.files())
            sets.append(patch_set)
            run.problems += patch_set.problems
        except FAILURES as error:
            run.problems.append(problem_of(str(folder), error))
    with benchmark_folder(options.output_dir, run) as folder:
        leave_config(options, folder)
        for name in in_turn(features, options.output_dir):
            try:
                descriptor = load_descriptor(name, options.weights_of(name), options.device)
            except FAILURES as error:
                run.problems.append(problem_of(name, error))
                continue
            for patch_set in sets:
                try:
                    kept = options.output_dir / "descriptors"
                    run.rows += measure(descriptor, patch_set, kept, progress)
                except FAILURES as error:
                    run.problems.append(problem_of(f"{name} on {patch_set.name}", error))
            write_run(folder, run)
        write_run(folder, run)
    return run


def table(run: Run) -> list[str]:
    """Lay out a run for the console: a table of each set, a line for each part and feature."""
    lines = []
    for dataset in run.data:
        rows = [row for row in run.rows if row.dataset == dataset]
        metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
        cells = [["part", "feature", *metrics]]
        for part in dict.fromkeys(row.part for row in rows):
            for row in (row for row in rows if row.part == part):
                values = {name: f"{entry['value']:.4f}" for name, entry in row.metrics.items()}
                cells.append([part, row.feature, *(values.get(n, NOTHING) for n in metrics)])
        lines += ["", dataset, *table_lines(cells, "<<")]
    return lines


def main(options: Unprefixed[PatchOptions]) -> None:
    """Measure descriptors on the patches of UBC PhotoTour, HPatches and RomePatches."""
    run = measure_all(options, progress=True)
    conclude(run, options.output_dir, table(run))


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.patches")
