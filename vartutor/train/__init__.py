"""Training: one loop for everything, and what each model adds to it."""
