"""What the user has registered with the broker: addresses that orders come from, segments switched off. Pure."""

import ipaddress
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any, Final

from sim.errors import ApiError
from sim.hours import MINUTE_MS, day_of

#: Whether the user's account is active in a segment; the kill switch is about the active ones.
SEGMENTS: Final[Mapping[str, bool]] = {
    "NSE_EQ": True,
    "BSE_EQ": True,
    "NSE_FO": True,
    "BSE_FO": True,
    "NCD_FO": False,
    "BCD_FO": False,
    "MCX_FO": False,
    "NSE_COM": False,
}
_LOOPBACK: Final = ("127.0.0.1", "::1")
_COOLING_MS: Final = 12 * 60 * MINUTE_MS


class Account:
    """One user's. Without a registered address, loopback is the registered one."""

    def __init__(self, primary_ip: str = "", secondary_ip: str = "", *, notifier_url: str = "") -> None:
        self.notifier_url = notifier_url  # may change: where the app listens is known when it has started
        self.primary_ip = primary_ip
        self.secondary_ip = secondary_ip
        self.primary_since_ms: int | None = None
        self.secondary_since_ms: int | None = None
        self._ips_changed_on: date | None = None
        self._off_since_ms: dict[str, int] = {}

    # --- addresses ---------------------------------------------------------------------------------------------------

    def may_order_from(self, address: str) -> bool:
        """Whether an order may come from there."""
        registered = [each for each in (self.primary_ip, self.secondary_ip) if each] or _LOOPBACK
        return _canonical(address) in [_canonical(each) for each in registered]

    def set_ips(self, primary: str | None, secondary: str | None, now_ms: int) -> None:
        """Once in a calendar week."""
        if not primary:
            raise ApiError(400, "UDAPI1182", "Primary IP is required", "primary_ip")
        for name, address in (("primary_ip", primary), ("secondary_ip", secondary)):
            if address and _canonical(address) is None:
                raise ApiError(400, "UDAPI1183", "Invalid IP", name, address)
        if secondary and _canonical(primary) == _canonical(secondary):
            raise ApiError(400, "UDAPI1184", "Primary and secondary IP must be different", "secondary_ip", secondary)
        today = day_of(now_ms)
        if self._ips_changed_on and self._ips_changed_on.isocalendar()[:2] == today.isocalendar()[:2]:
            raise ApiError(400, "UDAPI1185", "Static IP can only be updated once per week")
        self._ips_changed_on = today
        self.primary_ip, self.primary_since_ms = primary, now_ms
        if secondary:
            self.secondary_ip, self.secondary_since_ms = secondary, now_ms

    # --- kill switch -------------------------------------------------------------------------------------------------

    def blocks(self, segment: str) -> bool:
        """Whether the kill switch keeps orders out of a segment."""
        return segment in self._off_since_ms

    def check_switches(self, asked: Any, held: Collection[str], now_ms: int) -> dict[str, bool]:
        """Segment -> whether to switch it off: all of a request or nothing. `held`: segments with open positions."""
        if not isinstance(asked, list) or not asked:
            raise ApiError(400, "UDAPI1186", "The specified segment does not exist.")
        wanted: dict[str, bool] = {}
        for each in asked:
            segment, action = (each.get("segment"), each.get("action")) if isinstance(each, dict) else (None, None)
            if not isinstance(segment, str) or segment not in SEGMENTS:
                raise ApiError(400, "UDAPI1186", "The specified segment does not exist.", "segment", segment)
            if action not in ("ENABLE", "DISABLE"):
                raise ApiError(
                    400, "UDAPI1188", "Invalid action. Allowed values are ENABLE and DISABLE.", "action", action
                )
            wanted[segment] = action == "DISABLE"
        for segment, off in wanted.items():
            self._check_switch(segment, off, held, now_ms)
        return wanted

    def switch(self, wanted: Mapping[str, bool], now_ms: int) -> bool:
        """Do what was checked; whether anything changed."""
        changed = {segment: off for segment, off in wanted.items() if off != self.blocks(segment)}
        for segment, off in changed.items():
            if off:
                self._off_since_ms[segment] = now_ms
            else:
                del self._off_since_ms[segment]
        return bool(changed)

    def _check_switch(self, segment: str, off: bool, held: Collection[str], now_ms: int) -> None:
        if off and not SEGMENTS[segment]:
            raise ApiError(400, "UDAPI1187", f"Failed to update segment status: {segment} is inactive.")
        if off and segment in held:
            raise ApiError(400, "UDAPI1184", "Segment status cannot be changed until all open positions are closed.")
        if not off and self.blocks(segment) and now_ms < self._off_since_ms[segment] + _COOLING_MS:
            raise ApiError(400, "UDAPI1185", "Cannot enable segment: cooling period is still in effect.")


def _canonical(address: str) -> str | None:
    """None where it is no address. An IPv4 address inside an IPv6 one is that IPv4 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
