"""The tables themselves: TOML files, read by `market.tables`."""
