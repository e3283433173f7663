"""Learning to segment with few labels, and segmenting."""
