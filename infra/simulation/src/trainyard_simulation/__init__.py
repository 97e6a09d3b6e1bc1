"""The production protocol under a simulated clock, broker and ClearML, deterministic from a seed."""
