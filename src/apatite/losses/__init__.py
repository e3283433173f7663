"""Pure functions of tensors: formula, source and unit in each docstring."""
