"""postconf(1): show and edit the configuration, as the postconf of the release asked for does.

    postconf [-options] [--postfix-version X.Y] [--profile upstream|debian] [--origin] [--json] [name...]

The options are those of the real program (spec/postconf.md). Ours:

--postfix-version X.Y   parameters, defaults, warnings and output of that release ($POSTFIXPY_VERSION; 3.11)
--profile NAME          compiled-in paths and tables of that build, upstream or debian (that of the machine)
--origin                with names or -n: where each effective value comes from, and which master.cf rows override it
--json                  one JSON document with everything that would be printed; messages too, an object a line

Differs from Postfix: there is no pause of one second after a fatal error, and the warnings whose order the real program
randomises come in the order that it has with NORANDOMIZE. -v tells what makes a setting a used one and how mynetworks
came about, and nothing of the insides of Postfix, as its -vv does. -b and -t show the templates without the bounce
program of daemon_directory. -m tells, where no Postfix is installed, what works here (config/inspect/builds.py).
"""

from __future__ import annotations

import os
import sys

from postfixpy import log
from postfixpy.commands.postconf_options import Request, check_options, own_options, parse
from postfixpy.config.inspect.names import Names
from postfixpy.config.inspect.rows import read_rows as read_master_rows
from postfixpy.config.inspect.show_main import show_parameters
from postfixpy.config.lines import decode, encode
from postfixpy.config.main_cf import Settings, configuration_directory, read_settings
from postfixpy.config.parameters import database
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

    from postfixpy.config.parameters import Database


def _sink(program: str, *, as_json: bool) -> log.Sink:
    """Messages as the real program writes them: anything but printable ASCII becomes "?". Or one JSON object a line."""

    def write(severity: str, text: str) -> None:
        prefix = "" if severity == "info" else f"{severity}: "
        record = b"".join(bytes((byte,)) if 32 <= byte < 127 else b"?" for byte in encode(f"{program}: {prefix}{text}"))
        if as_json:
            from postfixpy.config.inspect import document

            record = document.message(program, severity, text)
        sys.stdout.flush()
        sys.stderr.buffer.write(record + b"\n")
        sys.stderr.flush()

    return write


def main(argv: list[str]) -> int:
    """Run postconf; argv[0] is the program name as typed. Returns the exit status."""
    previous = log.set_sink(_sink(argv[0], as_json="--json" in argv))
    try:
        return run(argv)
    except FatalError as error:
        log.fatal(str(error))
        return error.status
    finally:
        log.set_sink(previous)


def run(argv: list[str]) -> int:
    """Like main, but raises FatalError."""
    arguments = [decode(os.fsencode(argument)) for argument in argv]
    own, rest = own_options(arguments)
    parameters = database(own.release, own.profile)
    parse(own, rest, parameters)
    check_options(own, parameters.release)
    return _dispatch(own, parameters)


BUFFER = 4096


def _write(lines: Iterable[str]) -> None:
    """Write lines in blocks, as the real program does: after a fatal error, a block that is not full is lost."""
    output = sys.stdout.buffer
    pending = bytearray()
    for line in lines:
        pending += encode(line)
        if len(pending) >= BUFFER:
            whole = len(pending) // BUFFER * BUFFER
            output.write(pending[:whole])
            del pending[:whole]
    output.write(pending)
    output.flush()


def _dispatch(request: Request, parameters: Database) -> int:
    if request.has("b", "t"):
        _show_templates(request, parameters)
        return 0
    if request.has("m", "l", "a", "A", "T"):
        return _show_build(request, parameters)
    directory = configuration_directory(request.directory)
    if request.has("e", "X", "#"):
        _edit(request, directory, parameters)
        return 0
    names = _read(request, parameters, directory)
    if request.origin:
        from postfixpy.config.inspect import origin

        _write(origin.show(names, request.style(), request.classes, request.arguments, as_json=request.json))
    elif request.json:
        from postfixpy.config.inspect import document

        _write(document.show(names, request.style(), request.classes, request.options, request.arguments))
    elif request.has("M", "F", "P"):
        _write(_master_lines(names, request))
    else:
        _write(show_parameters(names, request.style(), request.classes, request.arguments))
    if not request.quiet and not request.has("d"):
        from postfixpy.config.inspect import unused

        main_too = not request.has("M", "F", "P") or parameters.release < (2, 11)
        if unused.warn_unused(names, main=main_too):
            unused.warn_deprecated_pointer(names)
    return 0


def _read(request: Request, parameters: Database, directory: str) -> Names:
    """Read the configuration and find out which names it uses."""
    release = parameters.release
    master_mode = request.has("M", "F", "P")
    given = request.directory is not None or "MAIL_CONFIG" in os.environ
    preset = {"config_directory": directory} if given or release < (2, 9) else {}
    settings = Settings(f"{directory}/main.cf")
    rows = None
    if master_mode:
        rows = read_master_rows(f"{directory}/master.cf", release, required=True)
    if request.has("d"):
        settings.values.update(preset)
    else:
        settings = read_settings(f"{directory}/main.cf", release, preset)
    names = Names(parameters, directory, settings, request.program)
    names.quiet = request.quiet
    names.verbose = request.verbose
    names.defaults_only = request.has("d")
    names.override(request.overrides)
    if release < (2, 9):
        return names
    if rows is None:
        rows = read_master_rows(f"{directory}/master.cf", release, required=False)
    names.add_rows(rows)
    if not request.has("d"):
        names.find_used_names()
    return names


def _master_lines(names: Names, request: Request) -> Iterable[str]:
    from postfixpy.config.inspect import show_master

    style = request.style()
    if request.has("F"):
        return show_master.show_fields(names, style, request.arguments)
    if request.has("P"):
        every = request.has("PP")
        return show_master.show_settings(names, style, request.classes, request.arguments, all_names=every)
    return show_master.show_rows(names, style, request.arguments)


def _edit(request: Request, directory: str, parameters: Database) -> None:
    from postfixpy.config.inspect import edit_main

    mode = "-" + next(letter for letter in ("e", "X", "#") if request.has(letter))
    if not request.arguments and parameters.release >= (2, 11):
        raise FatalError("missing service argument")
    if request.has("M", "F", "P"):
        from postfixpy.config.inspect import edit_master

        what = "-" + next(letter for letter in ("M", "F", "P") if request.has(letter))
        edit_master.edit_master(what, mode, request.arguments, directory, parameters)
    else:
        edit_main.edit_main(mode, request.arguments, directory, parameters)


BOUNCE = (
    *("notify_classes", "bounce_notice_recipient", "delay_notice_recipient", "header_from_format", "bounce_size_limit"),
    *("maximal_queue_lifetime", "delay_warning_time", "enable_threaded_bounces", "requiretls_redact_dsn"),
)
"""What bounce(8) reads, and may refuse, before it shows templates."""


def _show_templates(request: Request, parameters: Database) -> None:
    """The bounce templates (-t), or their texts with values (-b), as bounce(8) prints them."""
    from postfixpy.config.configuration import load
    from postfixpy.ipc import startup
    from postfixpy.services.notices import templates

    if len(request.arguments) > 1:
        raise FatalError("options -b and -t require at most one template file")
    overrides = [("bounce_template_file", argument) for argument in request.arguments]
    configuration = load(request.directory, release=parameters.release_name, profile=parameters.profile)
    startup.check(configuration.view(process_name="postconf"))
    view = configuration.view(overrides=[*overrides, ("queue_directory", ".")], process_name="bounce")
    log.set_sink(_sink(f"{view.syslog_name}/bounce", as_json=request.json))
    for name in BOUNCE:
        if view.parameter(name) is not None:
            getattr(view, name)
    given = templates.load(view)
    given[templates.FAILURE].sender(templates.header_from_format(view))
    if request.json:
        from postfixpy.config.inspect import document

        if request.has("t"):
            shown = {kind: given[kind]._asdict() for kind in templates.KINDS}
        else:
            shown = {kind: {"text": templates.expand(given[kind], view)} for kind in templates.KINDS}
        _write(document.objects(shown))
        return
    show = templates.dump if request.has("t") else templates.expand_all
    _write([show(given, view)])


def _table_types(request: Request, parameters: Database) -> list[str]:
    from postfixpy.config.configuration import load
    from postfixpy.config.inspect import builds
    from postfixpy.ipc import startup
    from postfixpy.lookup import registry

    configuration = load(request.directory, release=parameters.release_name, profile=parameters.profile)
    view = configuration.view(process_name="postconf")
    startup.check(view)
    ours = [name for name in registry.type_names() if parameters.release >= registry.SINCE.get(name, (0, 0))]
    return builds.table_types(parameters, view.meta_directory if parameters.release >= (3, 0) else "", ours)


def _openssl() -> list[str]:
    """The version of the machine's OpenSSL, which a program that runs here would find."""
    from postfixpy.tls import libssl

    library = libssl.available()
    return [] if library is None else [library.banner]


def _show_build(request: Request, parameters: Database) -> int:
    from postfixpy.config.inspect import builds

    option = next(letter for letter in ("m", "l", "a", "A", "T") if request.has(letter))
    if option == "T":
        option = f"T:{request.tls_mode}"
        if request.tls_mode not in ("compile-version", "run-version", "public-key-algorithms"):
            log.warning(f"unknown 'postconf -T' mode: {request.tls_mode}")
            return 1
    if option == "m":
        lines = _table_types(request, parameters)
    else:
        lines = builds.listing(parameters, option)
        if option == "T:run-version" and lines:
            lines = _openssl() or lines
    if request.json:
        from postfixpy.config.inspect import document

        _write(document.array(lines))
    else:
        _write(f"{line}\n" for line in lines)
    return 0
