"""Kafka, used safely."""
