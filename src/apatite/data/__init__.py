"""From prepared cases to batches: crops, augmentation, and which patches are hidden."""
