"""One file per kind of figure: arrays and names in, a `Picture` with caption out."""
