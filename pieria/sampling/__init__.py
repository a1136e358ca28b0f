"""Strategies and solvers of drawing: what turns a model's odds, scores or fields into items."""
