"""Worker: the venue's feed in, `ticks:{k}` out."""
