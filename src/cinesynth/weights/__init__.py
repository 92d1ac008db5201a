"""Weights folders: building, reading and verifying them, their scores, and the registry of those at hand."""
