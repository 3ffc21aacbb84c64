"""The commands of ``featplug train``, made from the options of each training."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import tyro

from featplug.cli.command_line import Unprefixed, leave_config
from featplug.io.artifact import files_hash
from featplug.io.folder_lock import locked_folder
from featplug.training.data.photographs import keep_decoded, list_photographs, split_photographs
from featplug.training.distributed import (
    join_processes,
    process_device,
    process_rank,
    wait_for_processes,
)
from featplug.training.export import export_weights
from featplug.training.task import PhotographTask, TrainingOptions
from featplug.training.tasks.contextdesc import ContextDescOptions, ContextDescTask
from featplug.training.tasks.d2net import D2NetOptions, D2NetTask
from featplug.training.tasks.doap import DOAPOptions, DOAPTask
from featplug.training.tasks.lisrd import LISRDOptions, LISRDTask
from featplug.training.tasks.lisrd_sift import LISRDSIFTOptions, LISRDSIFTTask
from featplug.training.tasks.mtldesc import MTLDescOptions, MTLDescTask
from featplug.training.tasks.tune import TuneOptions, TuneTask
from featplug.training.trainer import Trainer, check_resumable
from featplug.utils.progress import progress_bar


def export(run: Path, output: Path, licence: str = "Apache-2.0", half: bool = True) -> None:
    """Write the best weights of a run to a file for others.

    Args:
        run: folder of the run.
        output: safetensors file to write.
        licence: licence of the weights, which is kept in the file.
        half: round the weights to float16.
    """
    step = export_weights(run, output, licence, half)
    precision = "float16" if half else "float32"
    print(f"{output}: step {step}, {precision}, {output.stat().st_size / 2**20:.1f} MiB")


def prepare_files(task: type[PhotographTask[Any]], options: TrainingOptions) -> None:
    """Make the files that a training needs, in the first process while the others wait.

    Raises:
        ValueError: the photographs are too few, or one of them cannot be read.
    """
    names = list_photographs(options.images, options.outputs)
    split_photographs(names)  # too few are rejected before anything is made
    options.check()
    check_resumable(options, files_hash(options.images, names))
    options.outputs.mkdir(parents=True, exist_ok=True)
    if process_rank()[0] == 0:
        keep_decoded(options.images, names, options.outputs)
    join_processes(process_device(options.device))
    for label, made in task.prepare(options, names):
        if process_rank()[0] == 0:
            for _ in progress_bar(made, label, len(names), "photograph", shown=True):
                pass
        wait_for_processes()


def _command(
    task: type[PhotographTask[Any]], options_type: type[TrainingOptions]
) -> Callable[..., None]:
    """Make the command of a training from the dataclass of its options."""

    def command(options: Any) -> None:
        is_first = process_rank()[0] == 0
        with locked_folder(options.outputs) if is_first else nullcontext():
            prepare_files(task, options)
            trainer = Trainer(task(options))
            if is_first:
                leave_config(options)
            summary = trainer.run(progress=True)
        if not is_first:
            return
        state = "finished" if summary.finished else "stopped; the same command resumes it,"
        figures = ", ".join(f"{key} {value:.3f}" for key, value in summary.metrics.items())
        print(f"{state} after {summary.step} steps: {figures or 'not validated yet'}")
        print(f"weights, configuration, curves and history are in {options.outputs}")

    hint = tyro.conf.AvoidSubcommands[Unprefixed[options_type]]  # type: ignore[valid-type]
    command.__annotations__["options"] = hint
    command.__doc__ = options_type.__doc__
    return command


COMMANDS = {
    "contextdesc": _command(ContextDescTask, ContextDescOptions),
    "d2net": _command(D2NetTask, D2NetOptions),
    "doap": _command(DOAPTask, DOAPOptions),
    "lisrd": _command(LISRDTask, LISRDOptions),
    "lisrd-sift": _command(LISRDSIFTTask, LISRDSIFTOptions),
    "mtldesc": _command(MTLDescTask, MTLDescOptions),
    "tune": _command(TuneTask, TuneOptions),
    "export": export,
}
"""The commands of ``featplug train``."""
