"""Worker: the door for browsers and scripts (REST and SSE), and the keeper of the cold store."""
