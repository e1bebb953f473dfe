"""What a place that keeps snapshots can do."""

from __future__ import annotations

from typing import Any, Protocol

from streamil.snapshot.blob import Meta


class Store(Protocol):
    """Keeps blobs of `pack`; the newest whole one is what counts."""

    def save(self, blob: bytes) -> object:
        """Keep the blob, durably: when this returns, it is what `load` finds.

        Raises
        ------
        SnapshotError
            When it could not be kept. What was kept before still is.
        """

    def load(self) -> tuple[Any, Meta] | None:
        """Return state and meta of the newest whole snapshot, None when none was ever saved.

        Raises
        ------
        SnapshotError
            When there are some and none can be used: nobody starts afresh without being told.
        """
