"""Numbers that compare a prediction with a reference, with their intervals. NumPy and SciPy only."""
