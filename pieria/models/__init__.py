"""The families, one file each. A file that ends with ``MODEL = …`` is a family; its name is the file's name."""
