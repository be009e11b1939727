"""Worker: the venue's feed becomes tick records on `ticks:{k}`."""
