"""Catalogue, splits, fingerprints, and the tensors that a model is given."""
