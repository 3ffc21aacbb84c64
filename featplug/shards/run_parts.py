"""Making the parts of a stage that are missing, damaged or made from something else."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from featplug.io.files import discard
from featplug.io.parts.part_files import Key, part_keys
from featplug.shards.part_stage import PartReport, PartStage
from featplug.shards.share import Share
from featplug.shards.stage_record import check_record, write_record
from featplug.utils.errors import described
from featplug.utils.progress import progress_bar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartResult:
    """A part that was made, or why it was not."""

    key: Key
    report: PartReport | None
    reason: str = ""
    """Why it was not made."""


class Executor(Protocol):
    """Makes parts, in this process or in others, in any order."""

    def make(self, stage: PartStage, keys: Sequence[Key]) -> Iterator[PartResult]:
        """Make parts; yield each when it is done."""


class ThisProcess:
    """Makes one part after the other, here."""

    def make(self, stage: PartStage, keys: Sequence[Key]) -> Iterator[PartResult]:
        """Make parts; yield each when it is done."""
        return (make_part(stage, key) for key in keys)


@dataclass(frozen=True)
class PartsSummary:
    """What a run made of a stage's parts."""

    folder: Path
    num_parts: int
    """Parts of this share."""
    num_made: int
    """Parts that this run made."""
    num_items: int
    """Images or pairs in these."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images and pairs that are in none of the parts of this share, and why."""
    seconds: float = 0.0


def make_part(stage: PartStage, key: Key) -> PartResult:
    """Make a part; whatever its inputs make a method raise becomes the reason why there is none."""
    try:
        return PartResult(key, stage.make(key))
    except (OSError, ValueError) as error:  # the other parts are made
        return PartResult(key, None, str(error))
    except Exception as error:  # whatever a method raises
        return PartResult(key, None, described(error))


def run_parts(
    stage: PartStage,
    share: Share | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    progress: bool = False,
    on_result: Callable[[PartResult], None] = lambda _: None,
) -> PartsSummary:
    """Make the parts of a share that are missing, damaged or made from something else.

    Args:
        stage: what is made.
        share: which parts; all by default.
        executor: where they are made; in this process by default.
        overwrite: replace parts that were made with other options, weights or code.
        progress: show a progress bar.
        on_result: called with each part that was made, or could not be.

    Raises:
        OtherContentsError: the folder has parts of other options, weights or code.
        ValueError: a part could not be made; the others were.
    """
    start = time.perf_counter()
    every = stage.keys()
    known = set(every)
    keys = (share or Share()).of(every)
    check_record(stage, overwrite)
    write_record(stage)
    for key, path in part_keys(stage.folder, stage.suffix).items():
        if key not in known:  # such as of a pair list that has become shorter
            discard(path)
    todo = []
    for key in keys:
        if reason := stage.reason_to_make(key):
            todo.append(key)
            logger.debug("%s", reason)
    results = (executor or ThisProcess()).make(stage, todo)
    failed, num_items = {}, 0
    for result in progress_bar(results, stage.name, len(todo), "part", progress):
        on_result(result)
        if result.report is None:
            failed[result.key] = result.reason
        else:
            num_items += result.report.num_items
    if failed:
        key, reason = next(iter(failed.items()))
        raise ValueError(
            f"{len(failed)} of {len(keys)} parts of {stage.folder} could not be made; the first, "
            f"{stage.path(key).name}: {reason} Run the command again for these."
        )
    skipped = {name: why for key in keys for name, why in stage.report(key).skipped.items()}
    return PartsSummary(
        stage.folder, len(keys), len(todo), num_items, skipped, time.perf_counter() - start
    )
