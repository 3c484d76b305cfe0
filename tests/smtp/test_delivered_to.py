"""Delivered-To: headers."""

import pytest

from postfixpy.smtp.delivered_to import is_loop


@pytest.mark.parametrize(
    ("content", "loop"),
    [
        (b"Delivered-To: r0@server.example\n\nbody\n", True),
        (b"Received: x\n\ty\ndelivered-to:  R0@Server.Example\n\n", True),
        (b"Subject: x\n\nDelivered-To: r0@server.example\n", False),
        (b"not a header\nDelivered-To: r0@server.example\n", False),
        (b"Delivered-To: other@server.example\n\n", False),
        (b"X-Delivered-To: r0@server.example\n\n", False),
    ],
)
def test_loop(make_world, content: bytes, loop: bool) -> None:  # type: ignore[no-untyped-def]
    world = make_world()
    assert world.memory.run(is_loop(world.delivery(content=content))) is loop
