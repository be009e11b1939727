"""The front door: the command line, the supervisor behind `teji up`, and the tools of whoever runs Teji.

The only folder that knows all others; nothing imports it.
"""

from schemas import version

__version__ = version.VERSION
