"""Images in, names out."""
