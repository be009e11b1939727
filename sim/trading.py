"""The user's dealings with the exchange: orders in, fills, positions and funds out.

One user. Whoever wants to know of changes listens; a listener may place and cancel in turn.
"""

from collections.abc import Callable

from sim.account import Account
from sim.faults import Faults
from sim.hours import Hours
from sim.market import Market, Update
from sim.orders import ModifyBody, Order, PlaceBody, Trade
from sim.positions import Holding, Position
from sim.settings import SimSettings

#: Every change, one after the other: a state of an order, a position after a fill, a holding after a sale.
Told = Order | Position | Holding
Listener = Callable[[Told], None]


class Trading:
    def __init__(self, settings: SimSettings, hours: Hours, faults: Faults, account: Account, market: Market) -> None:
        self.settings, self.hours, self.faults, self.account, self.market = settings, hours, faults, account, market
        self._listeners: list[Listener] = []

    def listen(self, callback: Listener) -> None:
        """Be told of every change, in the order in which they happen."""
        self._listeners.append(callback)

    def place(self, body: PlaceBody, *, source: str = "api", at_ms: int) -> list[Order]:
        """The orders that the request became (several where it is sliced), each as it stands after it was matched
        at once. What the exchange turns down comes back `rejected`; what the API refuses raises ApiError."""
        raise NotImplementedError

    def modify(self, body: ModifyBody, *, at_ms: int) -> Order:
        """Raises ApiError for an order that is unknown or finished."""
        raise NotImplementedError

    def cancel(self, order_id: str, *, at_ms: int) -> Order:
        """Raises ApiError for an order that is unknown or finished."""
        raise NotImplementedError

    def order(self, order_id: str) -> Order | None:
        """Its latest state."""
        raise NotImplementedError

    def history(self, order_id: str) -> list[Order]:
        raise NotImplementedError

    def tagged(self, tag: str) -> list[Order]:
        """The latest state of each order with that tag."""
        raise NotImplementedError

    def trades_of(self, order_id: str) -> list[Trade]:
        raise NotImplementedError

    def step(self, update: Update) -> None:
        """A market interval has ended: match what waits."""

    def move_to(self, market: Market) -> None:
        """A new trading day."""
