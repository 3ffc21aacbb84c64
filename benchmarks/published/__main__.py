"""``python -m benchmarks.published`` lists the published numbers; ``--check`` checks them."""

from dataclasses import dataclass

from benchmarks.console import table_lines
from benchmarks.published.check_numbers import faults
from benchmarks.published.published_numbers import Published, canonical_dataset, load_published
from featplug.cli.command_line import Unprefixed, run_command


@dataclass(frozen=True)
class PublishedOptions:
    """Which published numbers to list."""

    feature: tuple[str, ...] = ()
    """Words in the names of the methods, such as d2net or LightGlue; by default all."""
    protocol: tuple[str, ...] = ()
    """Beginnings of the protocols' names, such as megadepth-1500; by default all."""
    dataset: tuple[str, ...] = ()
    """Names of the data sets; by default all."""
    check: bool = False
    """Check all numbers instead: print a line for each fault, and exit with 1 if there are any."""


def selected(options: PublishedOptions) -> list[Published]:
    """Return the numbers that the options select, in the order of the file."""
    words = [word.lower() for word in options.feature]
    datasets = set(map(canonical_dataset, options.dataset))
    return [
        number
        for number in load_published()
        if (not words or any(word in number.feature.lower() for word in words))
        and (not options.protocol or number.protocol.startswith(options.protocol))
        and (not datasets or canonical_dataset(number.dataset) in datasets)
    ]


def main(options: Unprefixed[PublishedOptions]) -> None:
    """List the published numbers that runs are compared with, or check them."""
    if options.check:
        found = faults()
        for fault in found:
            print(fault)
        print(f"{len(load_published()):,} published numbers, {len(found)} faults")
        raise SystemExit(1 if found else 0)
    numbers = selected(options)
    if not numbers:
        raise ValueError(
            "No published number is of these; run without --feature, --protocol and --dataset."
        )
    cells = [["method", "protocol", "data", "part", "metric", "value", "settings", "source"]]
    for number in numbers:
        subject = number.feature, number.protocol, number.dataset, number.part, number.metric
        value = f"{number.value:g} {number.unit}".removesuffix(" fraction")
        cells.append([*subject, value, _settings(number), f"{number.source}, {number.table}"])
    for line in table_lines(cells, "<<<<<><<"):
        print(line)
    for url in dict.fromkeys(number.url for number in numbers):
        print(url)


def _settings(number: Published) -> str:
    known = {**number.settings}
    if number.threshold is not None:
        known["threshold"] = number.threshold
    return ", ".join(f"{name} {'all' if value is None else value}" for name, value in known.items())


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.published")
