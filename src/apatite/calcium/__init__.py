"""Clinical arithmetic: the annotation rule, the volume on original slices, the burden group. Knows no torch."""
