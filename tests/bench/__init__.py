"""Performance, always as a ratio: ours and something known, measured side by side in one run.

`make bench`, or `python -m bench` with `tests` on the path. Each part of the house adds a file with its rows, which
`PARTS` in `__main__.py` names; nothing here is a test, and no test waits for it.
"""
