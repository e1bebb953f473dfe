"""Snapshots: everything that has state as one checksummed blob, and the stores that keep it."""

from streamil.snapshot.blob import pack, read_meta, unpack
from streamil.snapshot.folder import FolderStore
from streamil.snapshot.store import Store

__all__ = ["FolderStore", "Store", "pack", "read_meta", "unpack"]
