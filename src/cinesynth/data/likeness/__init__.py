"""What makes a heart somebody's: thumbnails of it, how near two of them are, and whether one is a near-copy."""
