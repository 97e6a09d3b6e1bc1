"""Small facts for the tests of the simulation."""

from __future__ import annotations

from trainyard_schemas.events import Event, OriginRecord, RunAccepted, make_event
from trainyard_schemas.ids import Origin, run_id_from_key
from trainyard_simulation.kernel import EPOCH_S

RUN_ID = run_id_from_key("default", "k")


def accepted_event(digest: str = "d", offset: int = 0) -> Event:
    """`run.accepted` of the one run that these tests use."""
    fact = RunAccepted(
        run_id=RUN_ID,
        tenant="default",
        request={"trainer": "sklearn", "schema_version": 2},
        request_digest=digest,
        original_schema_version=2,
        origin=OriginRecord.of(Origin("runs.requested", 0, offset, 0)),
    )
    return make_event(fact, source="test", writer="w", now=EPOCH_S)
