"""Measure any restorer on the same pairs: what it costs in fidelity, what it gains in looks, and how sure that is."""
