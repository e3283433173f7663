"""Evaluations: predictions and references in, tables with intervals out."""
