"""The sentences that a table is not shown without, in every format."""

from collections.abc import Iterable, Sequence

from benchmarks.record import counted
from benchmarks.report.evidence import MIN_SEEDS
from benchmarks.report.lines import LEVEL, Cell, Line


def caveats(lines: Sequence[Line], shown: Iterable[str]) -> list[str]:
    """Return what a reader of a table has to know, a sentence each.

    Args:
        lines: lines of the table.
        shown: names of the metrics in its columns.
    """
    names = list(shown)
    cells = [line.cells[name] for line in lines for name in names if name in line.cells]
    return [
        *_about_spread(cells),
        *_about_bold(cells),
        *_about_failures(lines),
        *_about_weights(lines),
        *_about_published(lines),
    ]


def _about_spread(cells: Sequence[Cell]) -> list[str]:
    numbers: dict[str | None, set[int]] = {}
    seeds: dict[str | None, set[int]] = {}
    for cell in cells:
        if cell.estimate is not None:
            numbers.setdefault(cell.basis, set()).add(cell.estimate.num_pairs)
        seeds.setdefault(cell.basis, set()).add(len(cell.values))
    sentences = []
    for basis in ("pairs", "pairs and seeds"):
        if basis in numbers:
            over = f"the {_range(numbers[basis])} pairs of a line"
            if basis != "pairs":
                over += f", each a mean over {_range(seeds[basis])} seeds"
            sentences.append(f"± is half of a 95 % interval by a bootstrap over {over}.")
    if "seeds" in seeds:
        start = "Where the pairs of a figure are not known, ±" if sentences else "±"
        sentences.append(f"{start} is the standard deviation over {_range(seeds['seeds'])} seeds.")
    if not sentences and cells:
        sentences.append("Figures have no ±: one seed, and no values of single pairs.")
    return sentences


def _range(numbers: Iterable[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _about_bold(cells: Sequence[Cell]) -> list[str]:
    verdicts = {cell.verdict for cell in cells}
    if verdicts & {"best", "tie", "worse"}:
        text = (
            f"Bold is better than every other line of its part by a paired test (p < {LEVEL:g}); "
            "the best of several that no test tells apart is not bold."
        )
        if "undecided" in verdicts:
            text += " Nothing is bold where lines have no common pairs or seeds to test."
        return [text]
    if "undecided" in verdicts:
        return [
            "Nothing is bold: the lines have neither the values of common pairs nor "
            f"{MIN_SEEDS} common seeds to test."
        ]
    return []


def _about_failures(lines: Sequence[Line]) -> list[str]:
    sentences = []
    for line in lines:
        failed = line.cells.get("failed_pairs")
        if line.part == "all" and failed is not None and max(failed.values) > 0:
            number = counted(round(max(failed.values)), "pair")
            sentences.append(f"{line.series} returned nothing for {number}: counted as failures.")
    return sentences


def _about_weights(lines: Sequence[Line]) -> list[str]:
    names: dict[str, list[str]] = {}
    for line in lines:
        for record in line.rows[0][1].weights:
            of_origin = names.setdefault(record.get("origin") or "file", [])
            if record["name"] not in of_origin:
                of_origin.append(record["name"])
    sentences = []
    if own := names.get("featplug"):
        sentences.append(f"Weights trained by featplug, not the authors': {', '.join(own)}.")
    if given := names.get("file"):
        sentences.append(f"Weights of given files, perhaps not the authors': {', '.join(given)}.")
    return sentences


def _about_published(lines: Sequence[Line]) -> list[str]:
    series: dict[str, list[str]] = {}
    for line in lines:
        for _, row in line.rows:
            if row.not_comparable:
                of_reason = series.setdefault(row.not_comparable.rstrip("."), [])
                if line.series not in of_reason:
                    of_reason.append(line.series)
    num_series = len({line.series for line in lines})
    sentences = []
    for reason, names in series.items():
        whose = "" if len(names) == num_series else f" ({', '.join(names)})"
        sentences.append(f"Not comparable with published numbers{whose}: {reason}.")
    return sentences
