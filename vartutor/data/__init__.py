"""Photographs, degradations and training pairs."""
