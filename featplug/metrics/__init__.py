"""Figures computed from poses, homographies, epipolar geometry and patches."""
