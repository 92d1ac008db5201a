"""What is measured of one heart so that sets of hearts can be compared: one file an extractor."""
