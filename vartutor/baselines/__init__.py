"""What a restorer has to beat: each takes (B, 3, h, w) in [-1, 1] and gives {1: x, 2: x, 4: x}."""
