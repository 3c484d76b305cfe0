"""mongodb: without a server, for Debian has none: the package is replaced by one that answers from memory."""

import asyncio
import json
import sys
import types
from typing import ClassVar

import pytest

from postfixpy.errors import FatalError
from postfixpy.lookup import TableError, open_table

DOCUMENTS = {
    "a": [{"v": "1", "n": 7, "list": ["x", ["y"]]}],
    "two": [{"v": "first"}, {"v": "last"}],
    "odd": [{"v": {}}],
}


class Cursor:
    def __init__(self, found):
        self.found = found

    def __iter__(self):
        return iter(self.found)

    async def __aiter__(self):
        for one in self.found:
            yield one


class Client:
    asked: ClassVar[list[object]] = []

    def __init__(self, uri, **options):
        assert options["socketTimeoutMS"] == 10_000

    def __getitem__(self, name):
        return self

    def find(self, query, projection):
        self.asked.append((query, projection))
        if query["k"] == "down":
            raise sys.modules["pymongo"].errors.PyMongoError("no server")
        return Cursor(DOCUMENTS.get(query["k"], []))

    def close(self):
        pass


@pytest.fixture
def mongo(monkeypatch, settings, tmp_path):
    pymongo = types.ModuleType("pymongo")
    pymongo.MongoClient = pymongo.AsyncMongoClient = Client
    pymongo.errors = types.SimpleNamespace(PyMongoError=type("PyMongoError", (Exception,), {}))
    json_util = types.ModuleType("bson.json_util")
    json_util.loads, json_util.dumps = json.loads, json.dumps
    monkeypatch.setitem(sys.modules, "pymongo", pymongo)
    monkeypatch.setitem(sys.modules, "bson", types.ModuleType("bson"))
    monkeypatch.setitem(sys.modules, "bson.json_util", json_util)
    monkeypatch.delitem(sys.modules, "postfixpy.lookup.mongodb", raising=False)
    monkeypatch.setattr(Client, "asked", [])
    start = 'uri = mongodb://h\ndbname = d\ncollection = c\nquery_filter = {"k": "%s"}\n'

    def make(more):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.cf"
        path.write_text(start + more)
        return open_table(f"mongodb:{path}", settings, surrogates=False)

    return make


def test_mongodb(mongo, logged):
    table = mongo("result_attribute = v, n\n")
    assert [table.lookup("A"), table.lookup("two"), table.lookup("none"), table.lookup("odd")] == [
        "1,7,x,y",
        "last",
        None,
        None,
    ]
    assert Client.asked[0] == ({"k": "a"}, {"v": 1, "n": 1, "_id": 0})
    assert table.lookup('"}, {"$where": "x') is None
    assert Client.asked[-1][0] == {"k": '"}, {"$where": "x'}
    assert asyncio.run(table.find("a")) == "1,7,x,y"
    with pytest.raises(TableError):
        table.lookup("down")
    assert logged[0].endswith("failed to retrieve value of 'v', Unknown result type document.")


def test_mongodb_settings(mongo):
    assert mongo('projection = {"v": 1}\nresult_format = <%s>\n').lookup("two") == "<last>"
    with pytest.raises(TableError):
        mongo("result_attribute = v\nexpansion_limit = 2\n").lookup("a")
    with pytest.raises(FatalError, match="specify exactly one of 'projection' or 'result_attribute'"):
        mongo("")


@pytest.mark.parametrize("kind", ["mongodb", "mysql", "pgsql"])
def test_a_missing_package_is_named(kind, settings, monkeypatch):
    package = {"mongodb": "pymongo", "mysql": "aiomysql", "pgsql": "psycopg"}[kind]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"postfixpy.lookup.{kind}", raising=False)
    with pytest.raises(FatalError) as caught:
        open_table(f"{kind}:/x", settings, surrogates=False)
    text = f'unsupported dictionary type: {kind} (it needs the extra: pip install "postfixpy[{kind}]")'
    assert str(caught.value) == text
