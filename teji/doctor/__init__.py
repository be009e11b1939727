"""`teji doctor`: one look at everything that has to be right, from the interpreter to the workers' lag."""
