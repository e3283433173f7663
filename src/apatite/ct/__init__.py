"""One head CT: where the artery region lies, how it is cut out, and the way back to the original slices."""
