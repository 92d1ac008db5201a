"""Synthesis: from a clinical prior, or a real image, to a cine with its segmentation."""
