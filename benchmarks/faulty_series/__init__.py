"""A grid of faulty DICOM series whose right answer is known, and a judge of what a reader makes of them.

Independent of the package under test: it uses pydicom to write and NumPy to measure, and nothing of `apatite`,
which `ours` alone imports.
"""
