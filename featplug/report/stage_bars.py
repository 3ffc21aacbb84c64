"""Time and memory of stages, as stacked bars and as text."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from featplug.io.metric_table import format_value

MAX_COLOURS = 10
"""Number of colours of stages."""
REUSED = "earlier run"
"""Mark of a stage that this run did not make, or not alone."""


@dataclass(frozen=True)
class Segment:
    """A stage in a stacked bar; positions are per cent of the width."""

    stage: str
    colour: int
    start: float
    length: float
    text: str
    is_reused: bool = False


@dataclass(frozen=True)
class Stack:
    """Stages of one series, on one part."""

    name: str
    segments: list[Segment]
    total: str


@dataclass(frozen=True)
class StageChart:
    """Seconds of the stages of each series, stacked, and the peak memory of each."""

    stages: list[str]
    seconds: list[Stack]
    memory: list[Stack]
    """Stacks of one segment each, the stage that needs most memory."""
    cells: dict[str, dict[str, str]]
    """Stack to stage to its seconds and memory as text."""

    @property
    def has_reused(self) -> bool:
        """Whether an earlier run made a stage."""
        return any(segment.is_reused for stack in self.seconds for segment in stack.segments)


def draw_stages(
    seconds: Mapping[str, Mapping[str, float]],
    memory: Mapping[str, Mapping[str, float]],
    reused: Mapping[str, Collection[str]] | None = None,
) -> StageChart:
    """Draw the cost of stages.

    Args:
        seconds: series to its stages, with their seconds.
        memory: the same with the peak memory in MiB, where it was measured.
        reused: series to the stages that an earlier run made, wholly or in part.
    """
    reused = reused or {}
    stages = list(dict.fromkeys(stage for of_stages in seconds.values() for stage in of_stages))
    colours = {stage: number % MAX_COLOURS for number, stage in enumerate(stages)}
    longest = max((sum(of_stages.values()) for of_stages in seconds.values()), default=0) or 1.0
    peaks = {name: max(of.items(), key=lambda item: item[1]) for name, of in memory.items() if of}
    largest = max((peak for _, peak in peaks.values()), default=1.0)
    return StageChart(
        stages,
        [
            _stack(name, of, longest, colours, _duration, reused.get(name, ()))
            for name, of in seconds.items()
        ],
        [
            _stack(name, dict([peak]), largest, colours, _mebibytes, reused.get(name, ()))
            for name, peak in peaks.items()
        ],
        {
            name: {
                stage: _stage_cell(value, memory.get(name, {}).get(stage))
                + (f" ({REUSED})" if stage in reused.get(name, ()) else "")
                for stage, value in of_stages.items()
            }
            for name, of_stages in seconds.items()
        },
    )


def _stack(
    name: str,
    values: Mapping[str, float],
    largest: float,
    colours: Mapping[str, int],
    show: Callable[[float], str],
    reused: Collection[str],
) -> Stack:
    ends = 100 * np.cumsum([0.0, *values.values()]) / largest
    segments = [
        Segment(
            stage,
            colours[stage],
            round(float(start), 2),
            round(float(end - start), 2),
            f"{stage}: {show(values[stage])}{f' ({REUSED})' if stage in reused else ''}",
            stage in reused,
        )
        for stage, start, end in zip(values, ends[:-1], ends[1:], strict=True)
    ]
    return Stack(name, segments, show(sum(values.values())))


def _stage_cell(seconds: float, memory: float | None) -> str:
    text = f"{format_value(seconds, 1)} s"
    return text if memory is None else f"{text}, {_mebibytes(memory)}"


def _mebibytes(memory: float) -> str:
    return f"{format_value(memory, 0)} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
