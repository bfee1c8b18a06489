"""The notebooks as a whole: pair, execute, check, and bind them into the book."""
