"""Typical wrong answers to the exercises, and a piece of the diagnosis that each must get."""
