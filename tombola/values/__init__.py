"""Frozen data: no files, no training. Everything else is a function of these."""
