"""Confidence in a pose: the probability that it is right, by the evidence for it."""

from featplug.metrics.chance import Evidence


def confidence(evidence: Evidence) -> float:
    """Return the confidence in a pose, in [0, 1].

    0.5 is where chance begins to be the explanation.
    """
    return 1 / (1 + 10 ** min(max(evidence.log_false_alarms + 3, -300.0), 300.0))
