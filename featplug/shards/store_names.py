"""Names of the folders of parts in a store."""

EXHAUSTIVE = "exhaustive"
"""Name of the pairs of all images with all others."""


def descriptors_name(features: str | None, output: str) -> str:
    """Return the name of global descriptors, of features or of images, of a conf's ``output``."""
    return output if features is None else f"{features}_{output}"


def pairs_name(descriptors: str, num_matched: int, min_score: float | None = None) -> str:
    """Return the name of retrieved pairs."""
    short = descriptors.replace("feats-featplug-", "").replace("global-", "")
    score = "" if min_score is None else f"-min{min_score:g}"
    return f"pairs-{short}-{num_matched}{score}"


def matches_name(features: str, output: str, pairs: str) -> str:
    """Return the name of matches of a conf's ``output``."""
    return f"{features}_{output}_{pairs}"


def verified_name(matches: str) -> str:
    """Return the name of verified pairs."""
    return f"verified-{matches}"
