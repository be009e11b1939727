"""The venue's feed on the wire: our own schema of it, the generated class (the oracle) and the compiled decoder."""
