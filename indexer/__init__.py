"""Vectors in, neighbours out."""
