"""Speed and memory of each stage, one file per part of the pipeline."""
