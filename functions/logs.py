"""Logs: one JSON object a line, for machines first. No prompt, no secret, at any level above DEBUG."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from functions.config import config


class JsonLines(logging.Formatter):
    """time, level, function, logger and message; an exception's type and place, for whoever mends it."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self._function = function

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "function": self._function,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            # Frames without the values in them: an exception's text may quote a prompt or a statement's parameters.
            line["exception"] = record.exc_info[1].__class__.__name__
            line["at"] = traceback.format_tb(record.exc_info[2])[-8:]
        return json.dumps(line, ensure_ascii=False)


def configure(function: str) -> None:
    """Send this process's logs to stderr under the name of what it does."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(function))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config().log_level.upper())
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer", "websocket"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
