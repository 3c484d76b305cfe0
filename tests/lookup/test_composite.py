"""pipemap, unionmap, randmap, debug."""

import asyncio

import pytest

from postfixpy.errors import FatalError
from postfixpy.lookup import TableError, open_table


def lookups(spec, keys, settings):
    table = open_table(spec, settings, surrogates=False)
    results = [table.lookup(key) for key in keys]
    assert [asyncio.run(table.find(key)) for key in keys] == results
    return results


def test_pipemap(settings):
    assert lookups("pipemap:{inline:{a=b,x=y},inline:{b=c}}", ["a", "x", "z"], settings) == ["c", None, None]


def test_unionmap(settings):
    spec = "unionmap:{inline:{a=1,b=2}, static:s, inline:{a=3}}"
    assert lookups(spec, ["a", "b", "z"], settings) == ["1,s,3", "2,s", "s"]


def test_an_error_inside_is_an_error(settings):
    for spec in ("pipemap:{static:x,fail:y}", "unionmap:{static:x,fail:y}"):
        with pytest.raises(TableError):
            lookups(spec, ["a"], settings)
    assert lookups("pipemap:{inline:{a=b},fail:y}", ["z"], settings) == [None]


def test_the_first_table_says_what_keys_are(settings):
    assert open_table("pipemap:{pcre:{{/./ x}},static:y}", settings).pattern
    assert open_table("unionmap:{static:y,pcre:{{/./ x}}}", settings).fixed


def test_composites_nest(settings):
    spec = "pipemap:{unionmap:{static:a,static:b},inline:{{a,b = both}}}"
    assert lookups(spec, ["x"], settings) == ["both"]


def test_randmap(settings):
    table = open_table("randmap:{a, b}", settings)
    assert {table.lookup("x") for _ in range(100)} == {"a", "b"}


def test_debug(settings, logged):
    table = open_table("debug:inline:{a=b}", settings)
    assert [table.lookup("A"), table.lookup("z")] == ["b", None]
    assert logged == [
        'info: inline:{a=b} lookup: "A" = "b"',
        'info: inline:{a=b} lookup: "z" = "not_found"',
    ]
    with pytest.raises(TableError):
        open_table("debug:fail:x", settings).lookup("a")
    assert logged[-1] == 'info: fail:x lookup: "a" = "error"'


@pytest.mark.parametrize("name", ["", "x", "{", "{}", "{x}", "{static:a", "{static:a}x"])
def test_syntax(name, settings):
    for kind in ("pipemap", "unionmap"):
        with pytest.raises(FatalError):
            open_table(f"{kind}:{name}", settings, surrogates=False)


def test_changes_inside_are_seen(settings, tmp_path):
    from postfixpy.lookup.build import open_writer
    from postfixpy.lookup.table import Flags

    def write():
        writer = open_writer("hash", f"{tmp_path}/t", settings, Flags.NONE, create=True)
        writer.update("a", "b")
        writer.finish()

    write()
    table = open_table(f"unionmap:{{hash:{tmp_path}/t}}", settings)
    assert not table.changed()
    write()
    assert table.changed()
