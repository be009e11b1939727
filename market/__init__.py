"""The market's rules as dated data and pure functions: sessions, contracts, instruments. Imports `schemas` only."""
