"""What several methods share about keypoints: selection, scales, patches around them."""
