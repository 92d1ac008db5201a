"""From a clinical prior to a beating heart with its masks, on disk."""
