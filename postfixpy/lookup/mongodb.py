"""mongodb: tables (mongodb_table(5)), with the package pymongo (``postfixpy[mongodb]``).

The query is JSON text with the key quoted for a place inside a JSON string, so that a crafted address stays a string.
"""

import json
from collections.abc import Mapping
from typing import Any

from postfixpy import log
from postfixpy.lookup.network import NetworkTable, load_driver
from postfixpy.lookup.search import arun, run
from postfixpy.lookup.source_config import SourceConfig
from postfixpy.lookup.syntax import tokens
from postfixpy.lookup.table import Flags, OpenError, Settings, TableError, is_utf8
from postfixpy.lookup.template import Results, Templates

pymongo = load_driver("pymongo", "mongodb")
json_util = load_driver("bson.json_util", "mongodb")

TIMEOUT_MS = 10_000
_TIMEOUTS = dict.fromkeys(("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS"), TIMEOUT_MS)


def quote_json(text: str) -> str:
    """For a place inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


class Mongodb(NetworkTable):
    """``mongodb:/path/of/settings``."""

    kind = "mongodb"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, secure=True)
        self.blocking_client: Any = None
        config = SourceConfig(name, settings)
        self.uri = config.text("uri", minimum=1)
        self.database = config.text("dbname", minimum=1)
        self.collection = config.text("collection", minimum=1)
        self.filter = config.text("query_filter", minimum=1)
        projection, attributes = config.text("projection"), config.text("result_attribute")
        if bool(projection) == bool(attributes):
            raise OpenError(f"{self.name}: specify exactly one of 'projection' or 'result_attribute'")
        self.projection: dict[str, Any] = dict.fromkeys(tokens(attributes, braces=False), 1)
        if projection:
            self.projection = self._parse(projection, "a projection")
        self.projection["_id"] = 0
        self.result_format = config.text("result_format", "%s", 1)
        self.limit = config.integer("expansion_limit", 10, 0, 100)
        self.templates = Templates(self.kind, name)
        self.templates.parse(self.filter, query=True)
        self.templates.parse(self.result_format, query=False)
        self.templates.parse_domain(config, settings)

    def _parse(self, text: str, what: str) -> dict[str, Any]:
        try:
            parsed = json_util.loads(text)
        except (ValueError, TypeError, KeyError) as error:
            log.warning(f"{self.name}: failed to create {what} from '{text}': {error}")
            raise TableError(f"{self.name}: {error}") from None
        if not isinstance(parsed, dict):
            raise TableError(f"{self.name}: {what} is not an object: {text}")
        return parsed

    def get(self, key: str) -> str | None:
        # With the package's blocking client: its other one leaves tasks behind when a loop ends.
        asked = self._question(key) if is_utf8(key) and run(self.templates.wants(key)) else None
        if asked is None:
            return None
        results = Results(self.templates, self.result_format, self.limit, key)
        try:
            if self.blocking_client is None:
                self.blocking_client = pymongo.MongoClient(self.uri, **_TIMEOUTS)
            for document in self.blocking_client[self.database][self.collection].find(asked, self.projection):
                self._take(document, results)
        except pymongo.errors.PyMongoError as error:
            raise self._failed(asked, error) from None
        return results.text()

    async def aget(self, key: str) -> str | None:
        asked = self._question(key) if is_utf8(key) and await arun(self.templates.wants(key)) else None
        if asked is None:
            return None
        results = Results(self.templates, self.result_format, self.limit, key)
        try:
            client = self.per_loop(lambda: _Client(self.uri)).client
            async for document in client[self.database][self.collection].find(asked, self.projection):
                self._take(document, results)
        except pymongo.errors.PyMongoError as error:
            raise self._failed(asked, error) from None
        return results.text()

    def close(self) -> None:
        client = getattr(self, "blocking_client", None)
        if client is not None:
            client.close()
        super().close()

    def _question(self, key: str) -> dict[str, Any] | None:
        text = self.templates.query(self.filter, key, quote_json)
        return None if text is None else self._parse(text, "a query")

    def _failed(self, asked: dict[str, Any], error: Exception) -> TableError:
        log.warning(f"{self.name}: cursor error for '{json_util.dumps(asked)}': {error}")
        return TableError(f"{self.name}: {error}")

    def _take(self, document: Mapping[str, object], results: Results) -> None:
        results.values.clear()  # as in Postfix, the last document counts
        for name, value in document.items():
            self._add(name, value, results)

    def _add(self, name: str, value: object, results: Results) -> None:
        if isinstance(value, list):
            for one in value:
                self._add(name, one, results)
        elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            if not results.add(str(value)):
                log.warning(f"{self.name}: expansion limit exceeded for key: '{results.key}'")
                raise TableError(f"{self.name}: expansion limit exceeded")
        else:
            kind = "document" if isinstance(value, Mapping) else type(value).__name__
            log.warning(f"{self.name}: failed to retrieve value of '{name}', Unknown result type {kind}.")


class _Client:
    """A client of one event loop; it has a pool of connections of its own."""

    def __init__(self, uri: str) -> None:
        self.client = pymongo.AsyncMongoClient(uri, **_TIMEOUTS)

    def drop_idle(self) -> None:
        """Nothing: the client looks after its connections."""
