"""Modules: no files, no losses."""
