"""The command line: thin over the Python API, and can do nothing that it cannot."""
