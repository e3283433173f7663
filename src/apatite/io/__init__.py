"""Disk in, disk out: images, manifests, prepared arrays, run folders."""
