"""The REST paths, one file a subject."""
