"""Additions to the model that most of the course does without."""
