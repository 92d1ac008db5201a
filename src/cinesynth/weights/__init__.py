"""Weights folders: reading, building, verifying and comparing them, and the registry of those at hand."""
