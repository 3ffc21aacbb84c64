"""The commands ``featplug list``, ``weights`` and ``doctor``: methods, weights and machine."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro
from tabulate import tabulate

from featplug import methods
from featplug.cli.command_line import Unprefixed
from featplug.cli.method_details import details, families_and_packages, found_confs
from featplug.stages.shared_options import MethodOptions
from featplug.weights.catalogue import ConfStatus, list_confs
from featplug.weights.importing import fetch_weights, import_weights
from featplug.weights.loading import WeightsStatus, list_weights, verify_weights
from featplug.weights.registry import get_entry
from featplug.weights.wheels import Wheels

AsJson = Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff]


def list_methods(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    options: Unprefixed[MethodOptions] = MethodOptions(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """List the features, and whether the weights that they need are on this machine.

    Args:
        names: methods to show with their options, instead of the list.
        options: files of further methods.
        as_json: print all features, matchers and retrieval methods, or the confs of the named ones,
            as JSON.
    """
    if names:
        _print_methods(names, as_json)
        return
    tables = (methods.features, methods.matchers, methods.pair_matchers, methods.retrieval)
    confs, matchers, pair_matchers, retrieval = (list_confs(table) for table in tables)
    if as_json:
        _print_json([_record(conf) for conf in (*confs, *matchers, *pair_matchers, *retrieval)])
        return
    status = {True: "ready", False: "missing"}
    rows = [
        [status[conf.is_ready], conf.name, conf.dimensions, conf.matchers, conf.paper]
        for conf in confs
    ]
    _print_table(["", "feature", "descriptor", "matcher", "paper"], rows)
    print()
    _print_table(["weights", "used by", "file", "licence"], _weights_rows(confs))
    print(f"\nmatchers: {', '.join(conf.name for conf in matchers)}")
    print(f"matchers of images, without features: {', '.join(c.name for c in pair_matchers)}")
    print(f"retrieval: {', '.join(conf.name for conf in retrieval)}")
    for line in families_and_packages():
        print(line)
    describers = ", ".join(conf.name for conf in confs if conf.describes)
    print(f"\nA@B describes the keypoints of B by A, one of {describers}.")
    print("A+M is the feature A with the matcher M. `featplug list NAME` shows the options of one.")


def _print_methods(names: Sequence[str], as_json: bool) -> None:
    if as_json:
        found = [(name, *each) for name in names for each in found_confs(name)]
        _print_json([{"name": name, "kind": table.kind, **conf} for name, table, conf in found])
        return
    for name in names:
        print("\n".join(details(name)))


def _weights_rows(confs: list[ConfStatus]) -> list[list[str]]:
    users: dict[str, list[str]] = {}
    for conf in confs:
        for checkpoint in conf.weights:
            users.setdefault(checkpoint, []).append(conf.name)
    known = {name: status for conf in confs for name, status in conf.weights.items()}
    return [[name, ", ".join(users[name]), *_source(status)] for name, status in known.items()]


def _source(status: WeightsStatus | None) -> tuple[str, str]:
    """Return the file of weights, or how to get it, and their licence."""
    if status is None:
        return "none known; use --weights FILE", ""
    file = f"{status.entry}, {status.how}"
    if status.path is None:
        file = f"missing: `featplug weights fetch {status.entry}`, or import {status.file}"
    return file, status.licence


def _record(conf: ConfStatus) -> dict[str, Any]:
    weights = [
        {"checkpoint": checkpoint, **({} if status is None else asdict(status))}
        for checkpoint, status in conf.weights.items()
    ]
    return {**asdict(conf), "ready": conf.is_ready, "weights": weights}


def weights_list(as_json: AsJson = False) -> None:
    """List the known weights, and which of them are on this machine.

    Args:
        as_json: print them as JSON.
    """
    statuses = list_weights()
    if as_json:
        _print_json([asdict(status) for status in statuses])
        return
    for status in statuses:
        print(f"{status.entry:<24}{status.feature:<16} {status.how:<16}{status.licence}")
        print(f"    {status.path or status.url or ''}\n    {status.citation}")


def weights_fetch(
    names: tyro.conf.Positional[tuple[str, ...]],
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Download weights from their authors or a mirror, check them and keep them.

    Args:
        names: names of weights, as `featplug weights list` shows them.
        dry_run: print the licences and mirrors, and download nothing.
    """
    if not names:
        raise ValueError("Give the names of weights, as `featplug weights list` shows them.")
    entries = [get_entry(name) for name in names]
    failures = []
    with Wheels(progress=True) as wheels:
        for entry in entries:
            for licence in dict.fromkeys(source.licence for source, _ in entry.mirrors):
                print(f"{entry.name}: licence {licence}", flush=True)
            if dry_run:
                print("".join(f"    {url}\n" for _, url in entry.mirrors), end="")
                continue
            try:
                print(fetch_weights(entry.name, progress=True, wheels=wheels))
            except ValueError as error:
                failures.append(str(error))
    if failures:
        raise ValueError(" ".join(failures))


def weights_verify(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Check the weights on this machine: hashes, keys and shapes.

    Args:
        names: names as `featplug weights list` shows them; all present weights by default.
    """
    checks = verify_weights(names or None)
    for check in checks:
        print(f"{check.entry:<24}{'ok' if check.ok else 'BAD'}  {check.message}")
    if not checks:
        print("No weights are here; `featplug weights list` shows where they come from.")
    if not all(check.ok for check in checks):
        sys.exit(2)


def weights_import(file: tyro.conf.Positional[Path], name: str | None = None) -> None:
    """Check an authors' weights file and keep it as safetensors.

    Args:
        file: the authors' file.
        name: name of the weights, where the file does not show it.
    """
    record = import_weights(file, name)
    print(f"{record.path} ({record.name}, sha256 {record.sha256})")


WEIGHTS = {
    "list": weights_list,
    "fetch": weights_fetch,
    "verify": weights_verify,
    "import": weights_import,
}
"""The commands of ``featplug weights``."""


def doctor() -> None:
    """Report installed packages and devices, and known problems with them."""
    from featplug.cli.doctor import diagnose

    for finding in diagnose():
        mark = "ok  " if finding.level == "ok" else "WARN"
        print(f"{mark} {finding.topic:<12} {finding.text}")


def _print_json(records: list[dict[str, Any]]) -> None:
    print(json.dumps(records, indent=2, ensure_ascii=False, default=str))


def _print_table(heads: list[str], rows: Sequence[Sequence[str | None]]) -> None:
    widths = [None, *[36] * (len(heads) - 1)]
    print(tabulate(rows, heads, tablefmt="simple", disable_numparse=True, maxcolwidths=widths))
