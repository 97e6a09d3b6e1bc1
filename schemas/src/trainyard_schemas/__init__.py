"""Event contracts: all that Trainyard's services know of each other.

Pydantic only, no I/O. What a stranger needs first:

- `runs`: the request that anybody may publish (`RunRequest`), `upcasting` for its older versions;
- `envelope`: CloudEvents at the bytes boundary, without a Kafka client;
- `events`: the facts of a run's life, `lifecycle`: the one fold that turns them into a state;
- `topics`: every topic, declared once.
"""
