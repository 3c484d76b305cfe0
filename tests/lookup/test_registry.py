"""Opening tables by name, sharing them, and searches with and without waiting."""

import asyncio

import pytest

from postfixpy.errors import FatalError
from postfixpy.lookup import Flags, Maps, TableError, arun, maps_find, open_table, run, type_names
from postfixpy.lookup.maps import any_changed
from postfixpy.lookup.table import casefold, lowercase

TYPES = """btree cdb cidr debug environ fail hash inline internal ldap lmdb memcache mongodb mysql pcre pgsql pipemap
proxy randmap regexp socketmap sqlite static tcp texthash unionmap unix"""


def test_every_type_of_postfix_is_there():
    assert type_names() == TYPES.split()


def test_an_open_table_is_shared(settings):
    assert open_table("static:x", settings) is open_table("static:x", settings)
    assert open_table("static:x", settings) is not open_table("static:x", settings, flags=Flags.LIST)


@pytest.mark.parametrize("spec", ["x", ":x", "x:", ""])
def test_malformed_names(spec, settings):
    with pytest.raises(FatalError, match='open dictionary: expecting "type:name" form instead of'):
        open_table(spec, settings, surrogates=False)


def test_read_only_types_are_not_written(settings):
    with pytest.raises(FatalError, match=r"inline:\{a=b\} map requires O_RDONLY access mode"):
        open_table("inline:{a=b}", settings, surrogates=False, writable=True)


def test_maps_are_searched_in_order(settings):
    maps = Maps("x_maps", "inline:{a=1}, pcre:{{/^b/ 2}} static:3", settings)
    assert [maps.find(key) for key in ("a", "b", "c", "")] == ["1", "2", "3", None]
    assert maps.find("b", partial=True) == "3"
    assert asyncio.run(maps.afind("b")) == "2"
    assert maps and not Maps("x_maps", "", settings)
    assert not any_changed([maps])


def test_an_unusable_table_stops_the_search(settings, logged):
    maps = Maps("x_maps", "inline:{a=1}, hash:/nonexistent/t, static:x", settings)
    assert maps.find("a") == "1"
    with pytest.raises(TableError):
        maps.find("b")
    reason = "open database /nonexistent/t.db: No such file or directory"
    assert logged == [
        f"error: {reason}",
        f"warning: hash:/nonexistent/t is unavailable. {reason}",
        'warning: hash:/nonexistent/t lookup error for "b"',
    ]


def test_files_as_values(settings, tmp_path):
    (tmp_path / "f").write_text("content\n")
    maps = Maps("x", f"static:{tmp_path}/f", settings, Flags.MAPS | Flags.RHS_IS_FILE)
    assert maps.find("k") == "content\n"


def test_one_search_both_ways(settings):
    maps = Maps("x", "inline:{a=1}", settings)
    assert run(maps_find(maps, "a")) == asyncio.run(arun(maps_find(maps, "a"))) == "1"


def test_folding():
    assert lowercase("AÉ\udcff") == "aÉ\udcff"
    assert casefold("AÉß", True) == "aéss"
    assert casefold("AÉß", False) == "aÉß"
