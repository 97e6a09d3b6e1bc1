"""structlog without rich, which it imports for tracebacks on a terminal: no service prints any, and it takes 4.6 MB."""

from __future__ import annotations

import sys

if "rich" in sys.modules:  # a command that prints tables
    import structlog
    from structlog.contextvars import bound_contextvars, merge_contextvars
else:
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
        from structlog.contextvars import bound_contextvars, merge_contextvars
    finally:
        del sys.modules["rich"]

__all__ = ["bound_contextvars", "merge_contextvars", "structlog"]
