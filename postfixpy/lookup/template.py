"""``%s %u %d %1``... in queries and results of databases, and the ``domain`` filter (mysql_table(5) and others).

What comes from the key goes through the quoting of the database before it is put into a query, so that a crafted
address cannot change the query. A key that lacks what a query asks for (``%d`` without a domain) is not looked up.
"""

from collections.abc import Callable

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.lookup.matching import StringList
from postfixpy.lookup.search import Search
from postfixpy.lookup.source_config import SourceConfig
from postfixpy.lookup.syntax import tokens
from postfixpy.lookup.table import Settings

Quote = Callable[[str], str]


class Templates:
    """The query templates and the result template of one table, and which keys they can be used with."""

    def __init__(self, kind: str, label: str) -> None:
        self.kind, self.label = kind, label
        self.key_domain = self.key_user = self.value_domain = self.value_user = False
        self.labels = 0
        """How many labels of the key's domain ``%1`` to ``%9`` need."""
        self.domain: StringList | None = None

    def parse(self, template: str, *, query: bool) -> bool:
        """Note what `template` needs; whether anything is put into it. Raises FatalError for an unknown ``%x``."""
        dynamic = False
        for letter in _letters(template):
            if letter == "%":
                continue
            dynamic = True
            if letter == "u" and not query:
                self.value_user = True
            elif letter == "d" and not query:
                self.value_domain = True
            elif letter in ("u", "U"):
                self.key_user = True
            elif letter in ("d", "D"):
                self.key_domain = True
            elif letter and letter in "123456789":
                self.key_domain = True
                self.labels = max(self.labels, int(letter))
            elif letter not in ("s", "S"):
                what = "query" if query else "result"
                raise FatalError(f"db_common_parse: {self.label}: Invalid {what} template: {template}")
        return dynamic

    def parse_domain(self, config: SourceConfig, settings: Settings) -> None:
        """Read the ``domain`` setting."""
        text = config.text("domain")
        if text:
            self.domain = StringList(config.name, text, settings)

    def wants(self, key: str) -> Search[bool]:
        """Whether the ``domain`` filter lets `key` through. Raises TableError."""
        if self.domain is None:
            return True
        local, _, domain = key.rpartition("@")
        return bool(local) and (yield from self.domain.search(domain))

    def query(self, template: str, key: str, quote: Quote = str) -> str | None:
        """`template` with `key` in it; None if the key is not for this table."""
        if not key:
            log.warning(f'table "{self.kind}:{self.label}": empty query string -- ignored')
            return None
        user, at, domain = key.rpartition("@")
        if not self._usable(user, at, domain):
            return None
        labels = self._labels(domain)
        if labels is None:
            return None
        values = {"s": key, "S": key, "u": user if at else key, "U": user if at else key, "d": domain, "D": domain}
        return _expanded(template, values | labels, quote)

    def result(self, template: str, value: str | None, key: str) -> str | None:
        """`template` with a `value` from the database in it; None if there is nothing to use."""
        if value is None:
            return None
        if not value:
            log.warning(f'table "{self.kind}:{self.label}": empty lookup result for: "{key}" -- ignored')
            return None
        user, at, domain = value.rpartition("@")
        if (self.value_domain and not (at and domain)) or (self.value_user and at and not user):
            return None
        key_user, key_at, key_domain = key.rpartition("@")
        if not self._usable(key_user, key_at, key_domain):
            log.warning(f"db_common_expand: {self.label}: lookup key '{value}' skipped after query")
            return None
        labels = self._labels(key_domain)
        if labels is None:
            return None
        values = {"s": value, "u": user if at else value, "d": domain, "S": key}
        values |= {"U": key_user if key_at else key, "D": key_domain}
        return _expanded(template, values | labels, str)

    def _usable(self, user: str, at: str, domain: str) -> bool:
        if self.key_domain and not (at and domain):
            return False
        return not (self.key_user and at and not user)

    def _labels(self, domain: str) -> dict[str, str] | None:
        if not self.labels:
            return {}
        parts = list(tokens(domain, ".", braces=False))
        if len(parts) < self.labels:
            return None
        return {str(number): parts[-number] for number in range(1, min(len(parts), 9) + 1)}


class Results:
    """The results of one lookup, joined with commas, up to ``expansion_limit`` of them."""

    def __init__(self, templates: Templates, template: str, limit: int, key: str) -> None:
        self.templates, self.template, self.limit, self.key = templates, template, limit, key
        self.values: list[str] = []

    def add(self, value: str | None) -> bool:
        """Take in one value of the database; False when that is one too many."""
        expanded = self.templates.result(self.template, value, self.key)
        if expanded is not None:
            self.values.append(expanded)
        return not 0 < self.limit < len(self.values)

    def text(self) -> str | None:
        """The result, None if there is none."""
        return ",".join(self.values) or None


def _letters(template: str) -> list[str]:
    found, position = [], 0
    while (position := template.find("%", position)) >= 0:
        found.append(template[position + 1 : position + 2])
        position += 2
    return found


def _expanded(template: str, values: dict[str, str], quote: Quote) -> str:
    parts, position = [], 0
    while (percent := template.find("%", position)) >= 0:
        letter = template[percent + 1]
        parts += [template[position:percent], "%" if letter == "%" else quote(values[letter])]
        position = percent + 2
    return "".join([*parts, template[position:]])


def sql_query(config: SourceConfig) -> str:
    """The ``query`` setting, or the query made of the settings from before Postfix 2.2."""
    query = config.text("query")
    if query:
        return query
    table = config.text("table", minimum=1)
    select, where = config.text("select_field", minimum=1), config.text("where_field", minimum=1)
    return f"SELECT {select} FROM {table} WHERE {where}='%s' {config.text('additional_conditions')}"
