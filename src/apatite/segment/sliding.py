"""A large volume through a network of fixed crop: overlapping windows, blended by a Gaussian, slab by slab.

Windows are placed row after row along depth. Once the next row begins, nothing above its first slice can change any
more, so those slices are finished and leave. The running sum never holds more than one crop-depth of slices:

    memory = crop depth * height * width * (num_labels + 1) * 4 bytes        the running sum and the summed weights
           + batch * crop voxels * (channels + num_labels) * 4 bytes         the windows under way, without the network

Source: Isensee et al. 2021 (nnU-Net), Gaussian importance; positions and weights as MONAI's
`sliding_window_inference(mode="gaussian", sigma_scale=0.125)`, which is the oracle of the test.
Differs: MONAI holds the sum of the whole volume for all labels.
"""

from collections.abc import Callable, Iterator
