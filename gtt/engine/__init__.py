"""Our GTT engine: the machine of one GTT, and the board of prices that are waited for. Pure."""
