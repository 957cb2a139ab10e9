"""A database's address, as its driver takes it."""

import urllib.parse
from typing import Any


def address(url: str) -> dict[str, Any]:
    """What pg8000 needs to connect to the database of this URL."""
    parts = urllib.parse.urlsplit(url)
    return {
        "user": parts.username,
        "password": parts.password,
        "host": parts.hostname,
        "port": parts.port,
        "database": parts.path.lstrip("/"),
    }
