"""What the venue allows a connection of its feed, as documented for normal accounts. Pure."""

from collections.abc import Mapping
from typing import Final

from schemas.commands import Mode

#: Keys per connection, by mode: where it carries that mode only, and where it carries several.
ALONE: Final[Mapping[Mode, int]] = {Mode.LTPC: 5000, Mode.OPTION_GREEKS: 3000, Mode.FULL: 2000, Mode.FULL_D30: 50}
COMBINED: Final[Mapping[Mode, int]] = {Mode.LTPC: 2000, Mode.OPTION_GREEKS: 2000, Mode.FULL: 1500, Mode.FULL_D30: 50}

KEYS_PER_MESSAGE: Final = 500
FRAME_MAX_BYTES: Final = 16 * 1024 * 1024  # the largest ones that were measured have 160 KB
