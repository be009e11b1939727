"""One folder a venue, the same file names in each: what the outside world looks like, made to look alike."""
