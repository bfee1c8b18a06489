"""Tokenizers: from a photo to whole numbers and back."""

from vartutor.tokenizer.pretrained import load_pretrained

__all__ = ["load_pretrained"]
