"""Describing another conf's keypoints: the very same ones, whatever the descriptor."""

from __future__ import annotations
