"""Intake and planner: from a run request to a ClearML queue, until the run has ended."""
