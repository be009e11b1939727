"""The version of Teji, for whoever cannot ask `teji`."""

from typing import Final

VERSION: Final = "0.1.0"
