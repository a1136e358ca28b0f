"""What an artifact is: how files become artifacts, artifacts become tensors of one form, and back."""
