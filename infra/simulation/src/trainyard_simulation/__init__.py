"""The production protocol under a simulated clock, broker and ClearML, deterministic from a seed.

What runs unchanged: the fold, intake's `answer`, the planner's `plan` and `Executor`, the worker's `handle`. What is
modelled: the loops around them, the broker (`broker`, `groups`, `consumer`), ClearML (`clearml`), who asks
(`producers`), and what goes wrong (`faults`). A `World` ends with `Evidence`, which the `checker` judges with a small
fold of its own. `campaign` runs many seeds, `search` every placement of a few faults, `mutations` tear holes that
both must notice, and `coverage` says what must have been met.

Not simulated yet, since nothing recovers from it yet: a worker that dies between its pop and its outcome (rules 5 and
6), what users do in ClearML (rule 8), and the sweep (rule 7), whose work is counted as litter.
"""
