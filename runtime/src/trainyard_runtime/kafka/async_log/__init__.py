"""The log for asyncio services: append with certainty, read a partition to its end, be woken by new records.

This package is the adapter to aiokafka, which nothing outside of it imports but FastStream's adapter.
"""

from trainyard_runtime.kafka.async_log.reader import LogReader
from trainyard_runtime.kafka.async_log.tailing import tail
from trainyard_runtime.kafka.async_log.writer import MAX_RECORD_BYTES, LogWriter

__all__ = ["MAX_RECORD_BYTES", "LogReader", "LogWriter", "tail"]
