"""How does it work? Families, words of the field, and one page about a run, drawn from the real model."""
