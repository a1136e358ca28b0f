"""The latent space as a place: maps of it, paths through it, directions in it, and the way back from an item to its code.

Everything here asks a model for its abilities (`Decodes`, and `Encodes` where there is an encoder), never for its family.
"""
