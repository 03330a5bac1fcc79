"""Errors that name the culprit and the remedy."""


class CorralError(Exception):
    """Something that a person can act on.

    `message` says what cannot be done and why ("cannot ..."); `remedy` says what would make it work, or is empty.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  remedy: {self.remedy}" if self.remedy else self.message
