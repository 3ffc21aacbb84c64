"""The commands ``featplug export`` and ``featplug import``, made from the functions themselves."""

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

from featplug.cli.command_line import Unprefixed, print_reasons, typed_parameters, with_signature
from featplug.io.exchange import colmap, d2net, kapture, schoenberger
from featplug.io.exchange.transfer import Transfer


def _command(function: Callable[..., Transfer]) -> Callable[..., None]:
    """Return the command that calls a function and prints what was transferred."""

    def run(**arguments: Any) -> None:
        _report(function(**arguments))

    unprefixed: Any = Unprefixed
    parameters = [
        parameter.replace(annotation=unprefixed[parameter.annotation])
        if is_dataclass(parameter.annotation)
        else parameter
        for parameter in typed_parameters(function)
    ]
    return with_signature(run, function, parameters)


def _report(transfer: Transfer) -> None:
    counts = f"{transfer.num_images} images ({transfer.num_keypoints} keypoints)"
    if transfer.num_pairs:
        counts += f", {transfer.num_pairs} pairs ({transfer.num_matches} matches)"
    if (verified := transfer.verification) is not None:
        counts += (
            f", {verified.num_verified_pairs} pairs verified "
            f"({verified.num_inlier_matches} inlier matches)"
        )
    print(f"{transfer.path}: {counts}")
    print_reasons(transfer.skipped, "left out: ")


EXPORTS = {
    "colmap": _command(colmap.export_database),
    "kapture": _command(kapture.export_kapture),
    "schoenberger": _command(schoenberger.export_dataset),
    "d2net": _command(d2net.export_archives),
}
"""The commands of ``featplug export``."""
IMPORTS = {
    "colmap": _command(colmap.import_database),
    "kapture": _command(kapture.import_kapture),
    "schoenberger": _command(schoenberger.import_dataset),
    "d2net": _command(d2net.import_archives),
}
"""The commands of ``featplug import``."""
