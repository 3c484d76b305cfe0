"""smtp_generic_maps: addresses of the local site as the world should see them (spec 7.6)."""

from .delivery import Delivery
from .effects import Run


def envelope_address(d: Delivery, address: str) -> Run[str]:
    """`address` (internal form) after smtp_generic_maps."""
    return address
    yield
