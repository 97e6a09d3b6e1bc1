"""Turns an intent into run requests: library and command line."""
