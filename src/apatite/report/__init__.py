"""Figures and self-contained HTML. Knows no torch."""
