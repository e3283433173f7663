"""How a model holds when scans get worse, and on scanners that its training never saw."""
