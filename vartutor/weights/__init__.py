"""Weights have one room: any model by the name of a shipped one, by the folder of a training run, or by a file."""

from vartutor.weights.load import load_cnn, load_restorer, load_start, load_tokenizer

__all__ = ["load_cnn", "load_restorer", "load_start", "load_tokenizer"]
