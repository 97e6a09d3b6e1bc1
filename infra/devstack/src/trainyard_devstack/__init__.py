"""The whole system on one laptop without Docker: real Kafka, a ClearML-compatible API, one supervisor."""
