"""What is decided: each input one synchronous step that leaves facts and effects. Pure."""
