"""Recipes over a grid: one row is one training run, one row leaves one record."""
