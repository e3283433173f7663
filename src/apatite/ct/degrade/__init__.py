"""One scan made worse in one known way: thicker slices, noise, another kernel, an offset, a region off its place."""
