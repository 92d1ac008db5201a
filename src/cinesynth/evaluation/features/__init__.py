"""Extractors: what describes one heart as numbers, so that sets of hearts can be compared. One file an extractor."""
