"""Seconds and peak memory of each feature: extraction, matching, and the stages of a run."""
