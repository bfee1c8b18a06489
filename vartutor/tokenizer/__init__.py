"""Tokenizers: from a photo to whole numbers and back."""
