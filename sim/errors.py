"""A refusal of the API, in the venue's words. Pure."""


class ApiError(Exception):
    """A refusal in the venue's words."""

    def __init__(
        self, status: int, code: str, message: str, property_path: str | None = None, invalid_value: object = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.property_path = property_path
        self.invalid_value = invalid_value
