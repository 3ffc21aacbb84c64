"""Relative poses from matches: see ``python -m benchmarks.relative_pose --help``.

``pose_protocols.py`` lists data sets and rules, ``pose_estimation.py`` estimates the poses of
matched pairs, and ``threshold_choice.py`` chooses thresholds on another data set;
:mod:`benchmarks.pairs` has the data sets, and matches a method's pairs once for all estimators.
"""
