"""Event contracts: all that Trainyard's services know of each other."""
