"""Our errors. The type says what happens next; the facts are attributes.

`Rejected`     this input can never succeed: set it aside and carry on.
`Unavailable`  the other side is not ready: wait, then try the same thing again.
`Misconfigured` a person has to change something: one sentence that says what, exit code 1.
Anything else is a bug and ends the process.
"""


class TejiError(Exception):
    """Base of everything we raise on purpose."""


class Rejected(TejiError):
    """This input can never succeed."""


class WrongField(ValueError):
    """Raised by a model whose fields do not go together: the message, and which of them to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Unavailable(TejiError):
    """The other side is not ready; the same thing may succeed later."""


class Misconfigured(TejiError):
    """The message tells a person what to do."""


class LeaseLost(TejiError):
    """Another process owns the shard now, or may: stop writing at once."""


class BadFrame(Rejected):
    """Bytes from the venue that are not a frame of its feed."""

    def __init__(self, reason: str, frame: bytes) -> None:
        super().__init__(f"{reason} in a frame of {len(frame)} bytes")
        self.reason = reason
        self.frame = frame
