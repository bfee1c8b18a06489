"""Figures and widgets: drawing only."""
