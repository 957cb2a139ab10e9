"""Text from outside."""


def storable(text: str) -> bool:
    """Whether the text survives UTF-8 and Postgres: no NUL, no unpaired surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
