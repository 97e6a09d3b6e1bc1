"""What every Trainyard service stands on: safe Kafka, ClearML over REST, projections, outbox, settings, logs."""
