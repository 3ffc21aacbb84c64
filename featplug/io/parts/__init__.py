"""Stores of parts, for image sets that outgrow one file and one machine.

A store is a folder with a manifest, which cuts an image set into shards, and a folder of immutable
parts for each stage. A part is written aside, flushed to the disk and renamed, so that it needs
neither a lock nor a journal, and a kill costs one part.
"""
