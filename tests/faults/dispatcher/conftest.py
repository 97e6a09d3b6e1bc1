"""The same yard as the integration tests'."""

from tests.integration.dispatcher.conftest import yard

__all__ = ["yard"]
