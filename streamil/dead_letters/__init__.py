"""What a consumer rejected: read from its topic, listed, exported, put back on the stream. Free of torch."""

from __future__ import annotations

from streamil.dead_letters.export import corrected, export
from streamil.dead_letters.letter import DeadLetter
from streamil.dead_letters.replay import replay
from streamil.dead_letters.summary import Summary
from streamil.dead_letters.topic import DeadTopic, Wanted

__all__ = ["DeadLetter", "DeadTopic", "Summary", "Wanted", "corrected", "export", "replay"]
