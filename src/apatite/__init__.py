"""Apatite: self-supervised learning for 3D medical segmentation that ends in a calibrated clinical number."""
