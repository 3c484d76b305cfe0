"""Tables that need no file of their own: static, inline, internal, texthash, environ, unix, fail (DATABASE_README).

texthash reads a postmap(1) source into memory; it is as the indexed types in all but the index.
"""

import os
from collections.abc import Iterator

from postfixpy import log
from postfixpy.lookup import source
from postfixpy.lookup.syntax import balanced, braced, name_value, tokens
from postfixpy.lookup.table import (
    LATEST,
    Flags,
    OpenError,
    Settings,
    Table,
    TableError,
    casefold,
    error_text,
    is_utf8,
    release,
)


class Static(Table):
    """Every key has the same value: ``static:value``, ``static:{ value with spaces }``."""

    kind = "static"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        self.value = name
        if name.startswith("{"):
            self.value, error = braced(name)
            if error:
                raise OpenError(f"bad static:name syntax: {error}")
        if flags & Flags.RHS_IS_FILE:
            try:
                self.value = source.file_value(self.value)
            except ValueError as error:
                raise OpenError(str(error)) from None

    def get(self, key: str) -> str | None:
        return self.value


class Internal(Table):
    """A table in memory that the program fills (``internal:name``)."""

    kind = "internal"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        self.values: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def items(self) -> Iterator[tuple[str, str]]:
        return iter(self.values.items())

    def put(self, key: str, value: str) -> bool:
        self.values[key] = value
        return True

    def delete(self, key: str) -> bool:
        return self.values.pop(key, None) is not None


class Inline(Internal):
    """``inline:{ key = value, { key = text with spaces } }``: the last of two equal keys counts."""

    kind = "inline"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        need = 'need "inline:{name=value...}"'
        if self.utf8 and not is_utf8(name):
            raise OpenError(f'bad UTF-8 syntax: "inline:{name}"; {need}')
        length = balanced(name)
        if length == 0 or length != len(name) or length == 2:
            raise OpenError(f'bad syntax: "inline:{name}"; {need}')
        if flags & Flags.RHS_IS_FILE:
            need = 'need "inline:{name=filename...}"'
        try:
            for pair in tokens(name[1:-1]):
                self._add(pair, flags)
        except ValueError as error:
            raise OpenError(f'{error}: "inline:{name}"; {need}') from None
        if not self.values:
            raise OpenError(f'empty table: "inline:{name}"; {need}')

    def _add(self, pair: str, flags: Flags) -> None:
        if pair.startswith("{"):
            pair, error = braced(pair)
            if error:
                raise ValueError(error)
        key, value = name_value(pair)
        if flags & Flags.RHS_IS_FILE:
            value = source.file_value(value)
        self.update(key, value)


class TextHash(Internal):
    """A postmap(1) source file read into memory at open. A change of the file is seen by a new open only."""

    kind = "texthash"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        try:
            with open(name, "rb") as file:
                data = file.read()
        except OSError as error:
            doing = "read" if isinstance(error, IsADirectoryError) else "open database"
            raise OpenError(f"{doing} {name}: {error_text(error)}") from None
        utf8 = self.utf8 and release(settings) < LATEST  # 3.11 turns its UTF-8 rules on only after this
        for number, key, value in source.entries(
            data, name, utf8=utf8, note=source.TEXTHASH_NOTE, warn_of_null=self.warn_of_null
        ):
            if flags & Flags.RHS_IS_FILE:
                try:
                    value = source.file_value(value)
                except ValueError as error:
                    log.warning(f"{name}, line {number}: {error}: skipping this entry")
                    continue
            folded = casefold(key, utf8) if self.fold else key
            if folded not in self.values or flags & Flags.DUP_REPLACE:
                self.values[folded] = value
            elif flags & Flags.DUP_IGNORE:
                continue
            elif flags & Flags.DUP_WARN:
                log.warning(f'{name}, line {number}: duplicate entry: "{key}"')
            else:
                raise OpenError(f'{name}, line {number}: duplicate entry: "{key}"')


class Environ(Table):
    """The process environment."""

    kind = "environ"

    def get(self, key: str) -> str | None:
        value = os.environb.get(key.encode("utf-8", "surrogateescape"))
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def put(self, key: str, value: str) -> bool:
        os.environb[key.encode("utf-8", "surrogateescape")] = value.encode("utf-8", "surrogateescape")
        return True


class Unix(Table):
    """The system's users or groups: ``unix:passwd.byname``, ``unix:group.byname``, each value a line of the file."""

    kind = "unix"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags)
        if name not in ("passwd.byname", "group.byname"):
            raise OpenError(f"unknown table: unix:{name}")
        self.users = name == "passwd.byname"

    def get(self, key: str) -> str | None:
        if "\0" in key:
            return None
        # The system's files are bytes; Python decodes them with the file-system encoding and surrogateescape.
        name = os.fsdecode(key.encode("utf-8", "surrogateescape"))
        try:
            line = _user_line(name) if self.users else _group_line(name)
        except KeyError:
            return None
        return os.fsencode(line).decode("utf-8", "surrogateescape")


def _user_line(name: str) -> str:
    import pwd

    user = pwd.getpwnam(name)
    return ":".join(str(field) for field in user)


def _group_line(name: str) -> str:
    import grp

    group = grp.getgrnam(name)
    return f"{group.gr_name}:{group.gr_passwd}:{group.gr_gid}:{','.join(group.gr_mem)}"


class Fail(Table):
    """Every request fails: ``fail:reason``. For tests."""

    kind = "fail"

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, pattern=True)

    def get(self, key: str) -> str | None:
        raise TableError(f"{self.name}: always fails")

    def items(self) -> Iterator[tuple[str, str]]:
        raise TableError(f"{self.name}: always fails")

    def put(self, key: str, value: str) -> bool:
        raise TableError(f"{self.name}: always fails")

    def delete(self, key: str) -> bool:
        raise TableError(f"{self.name}: always fails")
