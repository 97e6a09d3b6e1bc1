"""Runs attempts: claims them, trains in a child process, reports and registers the model."""
