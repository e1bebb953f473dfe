"""A race on a topic: samples in order, each once, rejects kept, state and position together."""

from streamil.attachment.attachment import Attachment, open_store
from streamil.attachment.options import Options
from streamil.attachment.position import Position
from streamil.attachment.taken import Arrived
from streamil.origin import Origin

__all__ = ["Arrived", "Attachment", "Options", "Origin", "Position", "open_store"]
