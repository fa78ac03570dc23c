"""Arithmetic on kept weights alone: compiled where that can be had, plain torch everywhere."""
