"""The outcome of a reconstruction as lines of text."""

from collections.abc import Mapping
from typing import Any

from featplug.colmap.model_support import FEWEST_CONFIRMED, MOST_TWO_VIEW_POINTS
from featplug.colmap.pair_usage import MOST_CONTRADICTED
from pipelines.advice import advice
from pipelines.positions import georeference_lines
from pipelines.rigs import rig_lines
from pipelines.run_record import method_line, metric_lines, outcome_lines

_SHOWN_LINKS = 3
"""Number of weak links that are shown."""
_SHOWN_PAIRS = 3
"""Number of contradicted pairs that are shown."""


def summary(results: Mapping[str, Any]) -> str:
    """Return the figures of a run as lines of text."""
    lines = [method_line(results)]
    lines += metric_lines(results["metrics"]) + outcome_lines(results)
    lines += [f"  {line}" for line in setting(results)]
    lines += _pair_lines(results) + [f"  {note}" for note in notes(results)]
    lines += _image_lines(results)
    return "\n".join(lines)


def setting(results: Mapping[str, Any]) -> list[str]:
    """Return how the model stands in the world, and which cameras and rigs it has."""
    lines = georeference_lines(results.get("georeference")) + rig_lines(results.get("rigs"))
    lines += _cluster_lines(results.get("clusters", []))
    return [line.strip() for line in lines] + results.get("cameras", [])


def _cluster_lines(clusters: list[dict[str, Any]]) -> list[str]:
    """Return how many clusters were mapped, and which of them are not in the model."""
    if not clusters:
        return []
    sizes = [cluster["num_images"] for cluster in clusters]
    num_reused = sum(cluster["is_reused"] for cluster in clusters)
    num_merged = sum(cluster["model"] == 0 for cluster in clusters)
    reused = f", {num_reused} of them by an earlier run" if num_reused else ""
    return [
        f"mapped in clusters of {min(sizes)} to {max(sizes)} images{reused}; the model has "
        f"{num_merged} of the {len(clusters)} clusters"
    ]


def notes(results: Mapping[str, Any]) -> list[str]:
    """Return what is weak in a model, and what would help, a sentence each."""
    return _trust_lines(results) + _support_lines(results) + advice(results)


def _pair_lines(results: Mapping[str, Any]) -> list[str]:
    """Return how good the verified pairs are: those with few inliers may fit by chance."""
    values = {name: entry["value"] for name, entry in results["metrics"].items()}
    classes = results["verified_pairs_by_inliers"].items()
    lines = [
        f"  verified pairs by inliers: {', '.join(f'{num} with {name}' for name, num in classes)}"
    ]
    if num_without := values["selected_pairs"] - values["matched_pairs"]:
        lines.append(f"  {num_without} of {values['selected_pairs']} pairs have no matches")
    return lines


def _trust_lines(results: Mapping[str, Any]) -> list[str]:
    """Return why the model as a whole may be wrong, if there are signs of it."""
    values = {name: entry["value"] for name, entry in results["metrics"].items()}
    lines = []
    if (fraction := values["contradicted_matches"]) > MOST_CONTRADICTED:
        pairs = results["contradicted_pairs"]
        strongest = ", ".join(" and ".join(pair["images"]) for pair in pairs[:_SHOWN_PAIRS])
        lines.append(
            f"check this model: its poses contradict {len(pairs)} of the "
            f"{results['pairs_within_model']} verified pairs within it ({fraction:.0%} of their "
            "matches), so either these pairs or the poses are wrong, as repeated structures cause: "
            f"look at {strongest}, match near photographs only (--pairs sequential, near or "
            "retrieval), or use another feature or matcher"
        )
    if (num := values["registered_images"]) < values["images"] / 2:
        lines.append(
            f"the model has only {num} of {values['images']} images, although "
            f"{results['pairs_leaving_model']} verified pairs connect it with others: use another "
            "feature or matcher, give the camera's parameters, or take more photographs"
        )
    return lines


def _support_lines(results: Mapping[str, Any]) -> list[str]:
    """Return where few confirmed points hold the model together, if they do."""
    fraction = results["metrics"]["two_view_points"]["value"]
    lines = []
    if fraction > MOST_TWO_VIEW_POINTS:
        lines.append(
            f"{fraction:.0%} of the points are seen in two images only, so that no third one "
            "confirms them: match more pairs, or use another feature or matcher"
        )
    links = results["weak_links"]
    lines += [_link_line(link) for link in links[:_SHOWN_LINKS]]
    if more := links[_SHOWN_LINKS:]:
        lines.append(f"{len(more)} more links of fewer than {FEWEST_CONFIRMED} confirmed points")
    return lines


def _link_line(link: dict[str, Any]) -> str:
    images = link["images"]
    hang = "hangs" if len(images) == 1 else f"({len(images)} images) hang"
    pairs = "1 pair" if link["pairs"] == 1 else f"{link['pairs']} pairs"
    return (
        f"{_shortened(images)} {hang} on {link['points']} points, {link['confirmed']} of which a "
        f"third image confirms, and on {pairs} of up to {link['most_inliers']} inliers; the place "
        "may be wrong"
    )


def _image_lines(results: Mapping[str, Any]) -> list[str]:
    """Return which images are not in the model, and why."""
    lines = []
    largest, *others = results["models"]
    for made in others:
        size = f"{len(made['images'])} images, {made['points']} points"
        names = [name for name in made["images"] if name not in largest["images"]]
        lines.append(f"  in another model, {made['path']} ({size}): {_shortened(names)}")
    reasons = results["data"]["reasons_not_registered"]
    lines += [f"  not registered: {name} {reason}" for name, reason in list(reasons.items())[:10]]
    if more := list(reasons)[10:]:
        lines.append(f"  not registered: {len(more)} more: {_shortened(more)}")
    return lines


def _shortened(names: list[str]) -> str:
    return f"{', '.join(names[:10])}{' …' * (len(names) > 10)}"


def with_skipped(message: str, skipped: dict[str, str]) -> str:
    """Add the first reasons for which images were skipped; they may be why a run fails."""
    reasons = [reason.rstrip(".") for reason in skipped.values()]
    more = [f"and {len(reasons) - 3} more"] if len(reasons) > 3 else []
    left_out = "; ".join([*reasons[:3], *more])
    return f"{message.rstrip('.')}; left out before: {left_out}." if reasons else message
