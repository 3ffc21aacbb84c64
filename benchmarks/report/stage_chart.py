"""Time and memory of the stages of runs."""

from collections.abc import Mapping

import numpy as np

from benchmarks.report.result_tables import Line, Table
from featplug.report.stage_bars import StageChart, draw_stages


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
    return draw_stages(
        dict(zip(names, (_means(line, "seconds") for line in lines), strict=True)),
        dict(zip(names, (_means(line, "peak_memory_mib") for line in lines), strict=True)),
        {
            name: {stage for _, row in line.rows for stage in row.reused}
            for name, line in zip(names, lines, strict=True)
        },
    )


def _means(line: Line, what: str) -> Mapping[str, float]:
    values: dict[str, list[float]] = {}
    for _, row in line.rows:
        for stage, measured in row.stages.items():
            if what in measured:
                values.setdefault(stage, []).append(float(measured[what]))
    return {stage: float(np.mean(of_stage)) for stage, of_stage in values.items()}
