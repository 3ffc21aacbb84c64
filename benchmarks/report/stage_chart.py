"""Time and memory of the stages of runs, as stacked bars and as text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.report.charts import MAX_COLOURS
from benchmarks.report.labels import format_value
from benchmarks.report.result_tables import Line, Table


@dataclass(frozen=True)
class Segment:
    """A stage in a stacked bar; positions are per cent of the width."""

    stage: str
    colour: int
    start: float
    length: float
    text: str


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


def stage_chart(table: Table) -> StageChart | None:
    """Draw mean time and memory of the stages over seeds; None where nothing was measured.

    The chart shows the part ``all`` where it has stages, else each part that has some.
    """
    measured = [line for line in table.lines if any(row.stages for _, row in line.rows)]
    lines = [line for line in measured if line.part == "all"] or measured
    if not lines:
        return None
    parts = {line.part for line in lines}
    names = [line.series if len(parts) == 1 else f"{line.series}, {line.part}" for line in lines]
    stages = list(dict.fromkeys(s for line in lines for _, row in line.rows for s in row.stages))
    colours = {stage: number % MAX_COLOURS for number, stage in enumerate(stages)}
    seconds = dict(zip(names, (_means(line, "seconds") for line in lines), strict=True))
    memory = dict(zip(names, (_means(line, "peak_memory_mib") for line in lines), strict=True))
    longest = max(sum(of_stages.values()) for of_stages in seconds.values()) or 1.0
    peaks = {name: max(of.items(), key=lambda item: item[1]) for name, of in memory.items() if of}
    largest = max((peak for _, peak in peaks.values()), default=1.0)
    return StageChart(
        stages,
        [_stack(name, seconds[name], longest, colours, _duration) for name in names],
        [_stack(name, dict([peak]), largest, colours, _mebibytes) for name, peak in peaks.items()],
        {
            name: {
                stage: _stage_cell(value, memory[name].get(stage))
                for stage, value in seconds[name].items()
            }
            for name in names
        },
    )


def _stack(
    name: str,
    values: Mapping[str, float],
    largest: float,
    colours: Mapping[str, int],
    show: Callable[[float], str],
) -> Stack:
    ends = 100 * np.cumsum([0.0, *values.values()]) / largest
    segments = [
        Segment(
            stage,
            colours[stage],
            round(float(start), 2),
            round(float(end - start), 2),
            f"{stage}: {show(values[stage])}",
        )
        for stage, start, end in zip(values, ends[:-1], ends[1:], strict=True)
    ]
    return Stack(name, segments, show(sum(values.values())))


def _stage_cell(seconds: float, memory: float | None) -> str:
    text = f"{format_value(seconds, 1)} s"
    return text if memory is None else f"{text}, {_mebibytes(memory)}"


def _mebibytes(memory: float) -> str:
    return f"{format_value(memory, 0)} MiB"


def _means(line: Line, what: str) -> Mapping[str, float]:
    values: dict[str, list[float]] = {}
    for _, row in line.rows:
        for stage, measured in row.stages.items():
            if what in measured:
                values.setdefault(stage, []).append(float(measured[what]))
    return {stage: float(np.mean(of_stage)) for stage, of_stage in values.items()}


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
