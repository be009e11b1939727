"""What is known: facts, and the book that is left when they are folded. Pure."""
