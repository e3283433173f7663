"""Scans whose truth is known: anatomy, calcium in the arterial wall, a scanner, a reader."""
