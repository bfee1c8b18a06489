"""vartutor: a course and a small library on multi-scale super-resolution with one autoregressive model."""

__version__ = "0.1.0"
