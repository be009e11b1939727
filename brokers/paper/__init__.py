"""A venue that fills orders from live quotes and depth, for paper and shadow trading."""
