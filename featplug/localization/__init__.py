"""Camera poses of query images, in a COLMAP model or in scans, and their evaluation."""
