"""Learning: one loop for every family with a gradient, and what a run needs around it."""
