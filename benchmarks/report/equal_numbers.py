"""Right matches of all methods at one number of matches, that which the strictest method has.

A method that rejects most matches has few wrong ones, and few right ones among its first 1,000. All
are compared at the number that each of them reaches.
"""

import re
from collections.abc import Iterable, Sequence

from benchmarks.report.lines import Line

_AMONG = re.compile(r"right_among_(\d+)")
_ALWAYS = (500, 1000)
"""Numbers of the columns that every table has."""


def columns_at_equal_numbers(names: Iterable[str], lines: Sequence[Line]) -> list[str]:
    """Return the metrics of a table: at a number of matches the usual ones, and the equal one.

    That is the largest number that every line has on average.

    Args:
        names: metrics of the rows.
        lines: lines of the table; those of the part ``all`` decide, if it has any.
    """
    names = list(names)
    among = {int(found[1]) for name in names if (found := _AMONG.fullmatch(name))}
    of_all = [line for line in lines if line.part == "all"] or lines
    means = [line.cells["mean_matches"].mean for line in of_all if "mean_matches" in line.cells]
    reached = [number for number in among if means and number <= min(means)]
    shown = {*_ALWAYS, *([max(reached)] if reached else [])}
    left_out = {f"right_among_{number}" for number in among - shown}
    return [name for name in names if name not in left_out]
