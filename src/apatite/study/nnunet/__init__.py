"""The real nnU-Net as a contestant: the same cases, a stated time, the same calibration."""
