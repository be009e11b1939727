"""Worker: signals and commands become guarded orders; the journal, the GTT engine, the reconciling with the venue."""
