"""postmap(1): makes, changes and queries lookup tables.

Options and texts are those of Postfix 3.11. New files appear whole in the place of old ones (see lookup.build).
"""

from collections.abc import Iterator

from postfixpy import log
from postfixpy.commands import tables
from postfixpy.errors import FatalError
from postfixpy.lookup import source
from postfixpy.lookup.table import Flags, Table


class Postmap(tables.Tool):
    """One run of postmap."""

    letters = "bc:d:fFhijmnNopq:rsuUvw"
    usage = "[-bfFhimnNoprsuUvw] [-c config_dir] [-d key] [-q key] [map_type:]file..."

    def __init__(self, argv: list[str]) -> None:
        self.headers = self.body = self.mime = self.force_utf8 = False
        super().__init__(argv)
        message = self.headers or self.body
        if self.query != "-" and (message or self.mime):
            raise FatalError('specify -b -h or -m only with "-q -"')
        if self.mime and not message:
            log.warning("ignoring -m option without -b or -h")
        if message and not self.force_utf8:
            self.flags &= ~Flags.UTF8_REQUEST

    def option(self, letter: str, value: str) -> None:
        match letter:
            case "b":
                self.body = True
            case "F":
                self.flags |= Flags.RHS_IS_FILE
            case "h":
                self.headers = True
            case "m":
                self.mime = True
            case "U":
                self.force_utf8 = True
            case _:
                super().option(letter, value)

    def query_many(self) -> bool:
        if self.headers or self.body:
            return self.query_keys(self._message_keys())
        return super().query_many()

    def _message_keys(self) -> Iterator[str]:
        """The headers (-h) and body lines (-b) of the message on standard input; -m: also those inside its parts."""
        from postfixpy.mail.mime import BodyEvent, EndOfHeaders, HeaderEvent, MimeMachine, Options

        machine = MimeMachine(Options.NONE if self.mime else Options.DISABLE_MIME)
        for line in tables.input_lines():
            for event in machine.feed("N", line.encode("utf-8", "surrogateescape")):
                if (isinstance(event, HeaderEvent) and self.headers) or (isinstance(event, BodyEvent) and self.body):
                    yield event.text.decode("utf-8", "surrogateescape")
                elif isinstance(event, EndOfHeaders) and not (self.body or self.mime):
                    return
        for event in machine.finish():
            if isinstance(event, HeaderEvent) and self.headers:
                yield event.text.decode("utf-8", "surrogateescape")

    def fill(self, data: bytes, path: str, table: Table) -> None:
        for number, key, value in source.entries(data, path, utf8=table.utf8, warn_of_null=table.warn_of_null):
            if self.flags & Flags.RHS_IS_FILE:
                try:
                    value = source.file_value(value)
                except ValueError as error:
                    log.warning(f"{path}, line {number}: {error}: skipping this entry")
                    continue
            table.update(key, value)


def main(argv: list[str]) -> int:
    """Run postmap; argv[0] is its name as typed. The exit status: 0, or 1 for "not found" and for errors."""
    return tables.main(Postmap, argv)
