"""A process that ends with the one that started it, even when that one was killed."""

from __future__ import annotations

import os
import signal
import threading
import time

VARIABLE = "STREAMIL_ENDS_WITH_STDIN"
"""Set by a parent that keeps the other end of the child's standard input."""
ORPHAN_SECONDS = 5.0
"""What an orphan may take to end by itself."""


def end_with_parent() -> None:
    """Where the parent asks for it, end when standard input does."""
    if not os.environ.get(VARIABLE):
        return

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
