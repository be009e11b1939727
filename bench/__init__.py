"""One module per number that README claims: each has `main(argv) -> Report` and measures its peer in the same run."""
