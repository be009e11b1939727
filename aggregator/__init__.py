"""Worker: ticks become one-minute bars."""
