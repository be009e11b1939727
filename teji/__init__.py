"""The front door: the command line, the supervisor behind `teji up`, and the tools of whoever runs Teji.

The only folder that knows all others; nothing imports it.
"""

from schemas.version import VERSION as __version__

__all__ = ["__version__"]
