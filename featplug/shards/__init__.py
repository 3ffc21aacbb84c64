"""Stages that make their results in parts, on one machine or on many.

A :class:`~featplug.shards.part_stage.PartStage` makes each part on its own, from parts of earlier
stages. :func:`~featplug.shards.run_parts.run_parts` makes those that a share of the work lacks, by
an executor: in this process, or in others.
"""
