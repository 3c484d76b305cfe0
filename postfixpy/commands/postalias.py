"""postalias(1): makes, changes and queries alias tables, from sources in the format of aliases(5)."""

import time

from postfixpy import log
from postfixpy.commands import tables
from postfixpy.lookup.build import Writer
from postfixpy.lookup.syntax import logical_lines
from postfixpy.lookup.table import LATEST, Table, is_utf8


class Postalias(tables.Tool):
    """One run of postalias."""

    letters = "Nc:d:fijnopq:rsuvw"
    usage = "[-Nfinoprsuvw] [-c config_dir] [-d key] [-q key] [map_type:]file..."
    separator = ":"

    def fill(self, data: bytes, path: str, table: Table) -> None:
        for number, line in logical_lines(data, path, warn_of_null=table.warn_of_null):
            pair = entry(
                line.decode("utf-8", "surrogateescape"),
                f"{path}, line {number}",
                utf8=table.utf8,
                release=self.view.release,
            )
            if pair is not None:
                table.update(*pair)
        if self.update and isinstance(table, Writer):
            table.replace = True
        table.update("@", "@")  # sendmail's sign of a complete table
        table.fold = False
        if isinstance(table, Writer):
            table.null = b""  # whatever the others have
        table.update("YP_LAST_MODIFIED", f"{int(time.time()):010d}")  # for NIS
        table.update("YP_MASTER_NAME", self.view.myhostname)


def entry(text: str, where: str, *, utf8: bool, release: tuple[int, int] = LATEST) -> tuple[str, str] | None:
    """The name, in internal form, and the value, in external form, of an alias; None, with a warning, if it is none."""
    from postfixpy.mail.addresses import externalize, internalize, scan

    if utf8 and not is_utf8(text):
        log.warning(f'{where}: non-UTF-8 input "{text}" -- ignoring this line')
        return None
    tokens = scan(text)
    if not tokens:
        return None
    kinds = [token.kind for token in tokens]
    colon = kinds.index(":") if ":" in kinds else 0
    if colon == 0 or colon + 1 == len(tokens) or "," in kinds[:colon]:
        log.warning(f"{where}: need name:value pair")
        return None
    if "@" in kinds[:colon] or "%" in kinds[:colon]:
        log.warning(f"{where}: name must be local{' and have no domain' if release >= (3, 10) else ''}")
        return None
    return internalize(tokens[:colon]), externalize(tokens[colon + 1 :])


def main(argv: list[str]) -> int:
    """Run postalias; argv[0] is its name as typed. The exit status: 0, or 1 for "not found" and for errors."""
    return tables.main(Postalias, argv)
