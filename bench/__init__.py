"""Side-by-side measurements; each prints one line of JSON."""
