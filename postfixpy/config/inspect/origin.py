"""--origin: for each effective value where it comes from, through which references, and which master.cf rows change it.

    smtp_helo_name = $myhostname
        set in ./main.cf, line 3
        $myhostname = mail.example.org: set in ./main.cf, line 1
        ./master.cf, line 7: slow/unix sets mx.example.org

A default is given with the release that introduced it. A line that reads "computed" is a default that depends on
the machine.
"""

from collections.abc import Iterator

from postfixpy import log
from postfixpy.config.expand import scan
from postfixpy.config.inspect import text
from postfixpy.config.inspect.document import dump
from postfixpy.config.inspect.names import Names
from postfixpy.config.inspect.show_main import Style
from postfixpy.config.parameters import RUNTIME, default_since


class Link:
    """A name, its unexpanded value, and where that comes from."""

    __slots__ = ("file", "kind", "line", "name", "since", "value")

    def __init__(self, names: Names, name: str) -> None:
        settings = names.settings
        self.name = name
        self.value = names.lookup(name)
        self.file = ""
        self.line = 0
        self.since = ""
        if not names.defaults_only and name in settings.values:
            self.line = settings.lines.get(name, 0)
            self.kind = "main.cf" if self.line else "command line"
            self.file = settings.path if self.line else ""
        elif self.value is None:
            self.kind = "undefined"
        elif name not in names.database.parameters:
            self.kind = "service default"
        elif names.database.parameters[name].default == RUNTIME:
            self.kind = "computed"
        else:
            self.kind = "compatibility default" if "$compatibility_level" in self.value else "default"
            self.since = default_since(name, names.database)

    def where(self) -> str:
        """In words."""
        if self.kind == "main.cf":
            return f"set in {self.file}, line {self.line}"
        if self.kind == "command line":
            return "set on the command line"
        if self.since:
            return f"{self.kind} since {self.since}"
        return {"undefined": "not set, and no default", "computed": "computed from the machine"}.get(
            self.kind, self.kind
        )

    def as_json(self) -> dict[str, object]:
        """For --json."""
        shown: dict[str, object] = {"name": self.name, "value": self.value, "kind": self.kind}
        if self.file:
            shown |= {"file": self.file, "line": self.line}
        if self.since:
            shown["since"] = self.since
        return shown


def chain(names: Names, name: str) -> list[Link]:
    """The names that the value of `name` refers to, directly or through others, each once, in order of appearance."""
    links: list[Link] = []
    seen = {name}

    def follow(value: str | None, of: str) -> None:
        if not value or names.is_raw(of):
            return
        found: list[str] = []
        scan(value, found.append, release=names.release)
        for reference in found:
            if reference not in seen:
                seen.add(reference)
                link = Link(names, reference)
                links.append(link)
                follow(link.value, reference)

    follow(names.lookup(name), name)
    return links


def show(names: Names, style: Style, classes: set[str], wanted: list[str], *, as_json: bool) -> Iterator[str]:
    """The report for `wanted` names, or for all of `classes` that are set (or all with a value, without -n)."""
    documents = []
    for name in wanted or sorted(name for name, kind in names.classes.items() if kind in classes):
        if name not in names.classes:
            log.warning(f"{name}: unknown parameter")
            continue
        if names.lookup(name, only_set=style.only_set) is None:
            continue
        own = Link(names, name)
        overrides = [scope for scope in names.scopes if name in scope.settings]
        links = chain(names, name)
        if as_json:
            document = own.as_json()
            document["expanded"] = own.value if names.is_raw(name) else names.expand(own.value or "")
            document["references"] = [link.as_json() for link in links]
            document["overrides"] = [
                {
                    "service": scope.row.name_space,
                    "file": names.source(scope),
                    "line": scope.row.line,
                    "value": scope.settings[name],
                }
                for scope in overrides
            ]
            documents.append(document)
            continue
        value = own.value or ""
        yield text.line(f"{name} = {value if names.is_raw(name) or not style.expand else names.expand(value)}")
        yield f"    {own.where()}\n"
        for link in links:
            yield f"    ${link.name} = {link.value if link.value is not None else ''}: {link.where()}\n"
        for scope in overrides:
            where = f"{names.source(scope)}, line {scope.row.line}"
            yield f"    {where}: {scope.row.name_space} sets {scope.settings[name]}\n"
    if as_json:
        yield dump(documents)
