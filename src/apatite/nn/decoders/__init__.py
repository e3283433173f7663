"""What turns the encoder's tokens into one logit per voxel and label."""
