"""Exercises: ``from vartutor.exercises import ch01`` gives ``ch01.check``, ``ch01.hint`` and ``ch01.solution``."""
