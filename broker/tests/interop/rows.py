"""How a Python judge runs its rows of the interoperability table and reports them.

    python CLIENT/table.py PORT VERSION [ROW]...

VERSION is 31, 311 or 5. Each row is one line on standard output: `ROW<TAB>ok` or `ROW<TAB>failed<TAB>why`.
"""

import sys
import threading
import time
import traceback

PATIENCE_S = 5
"""The most that anything may take; reached only when a row fails."""
DOUBT_S = 0.2
"""How long to look for something that must not come."""

_rows = []


def row(*versions, name=None):
    """Marks a function as a row for these versions (none: for all). It gets the version and is named by its function."""

    def mark(function):
        _rows.append((name or function.__name__, versions or (31, 311, 5), function))
        return function

    return mark


def _run(name, function, version):
    try:
        function(version)
        _report(f"{name}\tok")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__}: {error} (line {place.lineno})".replace("\n", " | ").replace("\t", " ")
        _report(f"{name}\tfailed\t{why}")


def _report(line):
    """In one piece, because rows run at the same time."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(version, wanted):
    """All rows at once: most of them only wait."""
    chosen = [(name, f) for name, versions, f in _rows if version in versions and (not wanted or name in wanted)]
    threads = [threading.Thread(target=_run, args=(name, f, version), daemon=True) for name, f in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def arguments():
    """Port, version, rows."""
    return int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]


def equal(found, expected, what=""):
    if found != expected:
        raise AssertionError(f"{what or 'found'} {found!r}, expected {expected!r}")


def eventually(what, holds):
    until = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.005)
