"""sqlite: tables, and with them the templates and settings that all databases share."""

import asyncio
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.errors import FatalError
from postfixpy.lookup import TableError, open_table
from postfixpy.lookup.source_config import SourceConfig, parse
from postfixpy.lookup.template import Templates

ROWS = [("a", "x@y"), ("a", "z"), ("o'b", "quote"), ("empty", ""), ("null", None), ("user@dom.ex", "v@w"), ("n", 5)]


@pytest.fixture
def database(tmp_path, settings):
    """Opens sqlite: tables on one database."""
    path = tmp_path / "data base.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (k, v)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", ROWS)
    connection.close()

    def make(text):
        name = tmp_path / f"{len(list(tmp_path.iterdir()))}.cf"
        name.write_text(f"dbpath = {path}\n{text}")
        return open_table(f"sqlite:{name}", settings, surrogates=False)

    return make


QUERY = "query = SELECT v FROM t WHERE k = '%s'\n"


def test_lookup(database, logged):
    table = database(QUERY)
    expected = {"A": "x@y,z", "o'b": "quote", "empty": None, "null": None, "n": "5", "none": None, "": None}
    assert {key: table.lookup(key) for key in expected} == expected
    assert asyncio.run(table.find("a")) == "x@y,z"
    assert table.lookup("' OR '1'='1") is None
    assert [line.partition(".cf")[2] for line in logged] == [
        '": empty lookup result for: "empty" -- ignored',
        '": empty query string -- ignored',
    ]


def test_parts_of_the_key(database):
    parts = "result_format = <%s|%u|%d|%S|%U|%D>\ndomain = dom.ex, inline:{other.ex=1}\n"
    table = database("query = SELECT v FROM t WHERE k = '%u@%2.%1'\n" + parts)
    keys = ["user@dom.ex", "user", "@dom.ex", "user@other.ex", "user@third.ex"]
    found = "<v@w|v|w|user@dom.ex|user|dom.ex>"
    assert [table.lookup(key) for key in keys] == [found, None, None, None, None]


def test_limits_and_errors(database, logged):
    with pytest.raises(TableError):
        database(QUERY + "expansion_limit = 1\n").lookup("a")
    assert logged[0].endswith("Expansion limit exceeded for key 'a'")
    with pytest.raises(TableError, match="SQL prepare failed"):
        database("query = SELEKT '%s'\n").lookup("a")
    with pytest.raises(TableError):
        database("query = DELETE FROM t WHERE k = '%s'\n").lookup("a")


def test_legacy_settings_and_advice(database, logged):
    old = "table = t\nselect_field = v\nwhere_field = k\nadditional_conditions = AND v != 'z'\n"
    assert database(old).lookup("a") == "x@y"
    database("query = SELECT v FROM t WHERE k = \"%s\" AND v = '%%%u'\n")
    assert logged[0].endswith("contains >%s< without the recommended '' quotes")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "bad string length 0 < 1: table = "),
        ("query = %q\n", "Invalid query template: %q"),
        (f"{QUERY}expansion_limit = x\n", "bad numerical configuration: expansion_limit = x"),
        (f"{QUERY}result_format = %\n", "Invalid result template: %"),
        ("junk\n", "missing '=' after attribute name: \"junk\""),
        ("= x\n", 'missing attribute name: "= x"'),
    ],
)
def test_bad_settings(database, text, error):
    with pytest.raises(FatalError) as caught:
        database(text)
    assert str(caught.value).endswith(error)


def test_settings_in_main_cf(settings):
    values = {"src_dbpath": "/x", "src_limit": "12", "src_tls": "yes", "src_bad": "x"}
    settings.text = lambda name: values.get(name, "")
    config = SourceConfig("src", settings)
    assert (config.text("dbpath"), config.integer("limit", 0), config.boolean("tls", False)) == ("/x", 12, True)
    with pytest.raises(FatalError, match=r"^bad numerical configuration: src_bad = x$"):
        config.integer("bad", 0)
    with pytest.raises(FatalError, match=r"^invalid src_limit parameter value 12 > 10$"):
        config.integer("limit", 0, 0, 10)


def test_a_file_that_is_missing(settings, tmp_path):
    with pytest.raises(FatalError, match=r"^open /nonexistent: No such file or directory$"):
        open_table("sqlite:/nonexistent", settings, surrogates=False)


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_key_in_any_template(key, value):
    templates = Templates("x", "y")
    query = "'%s' %u %U %d %D %1 %2 %%"
    templates.parse(query, query=True)
    templates.parse("%s %u %d %S", query=False)
    expanded = templates.query(query, key, lambda text: text.replace("'", "''"))
    if expanded is not None:
        assert expanded.count("'") % 2 == 0
    templates.result("%s %u %d %S", value, key)


@given(st.binary(max_size=200))
def test_any_bytes_as_settings(data):
    try:
        parse(data, "x")
    except FatalError:
        pass
