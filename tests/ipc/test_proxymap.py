"""Messages of proxymap: requests and replies of 3.11 and of the releases before."""

import pytest

from postfixpy.ipc import proxymap as wire
from postfixpy.ipc.attributes import ProtocolError

OLD, NEW = (3, 7), (3, 11)


def test_requests_of_older_releases_have_one_kind_of_flags():
    old = [("request", "lookup"), ("table", "static:x"), ("flags", "64"), ("key", "a")]
    lookup = wire.Lookup.parse(wire.modern(old, OLD))
    assert (lookup.table, lookup.instance_flags, lookup.flags, lookup.key) == ("static:x", 64, 64, "a")
    opened = wire.Open.parse(wire.modern([("request", "open"), ("table", "static:x"), ("flags", "64")], OLD))
    assert opened.instance_flags == 64
    with pytest.raises(ProtocolError):
        wire.Lookup.parse(wire.modern(old, NEW))


def test_replies():
    assert wire.reply("lookup", wire.OK, 80, ("v",)) == [("status", 0), ("flags", 80), ("value", "v")]
    assert wire.reply("lookup", wire.NO_KEY, 80, (), OLD) == [("status", 1), ("value", "")]
    assert wire.reply("open", wire.OK, 80, (), OLD) == [("status", 0), ("flags", 80)]
    assert wire.reply("sequence", wire.DENY, 0, (), NEW) == [("status", 4), ("flags", 0), ("key", ""), ("value", "")]
