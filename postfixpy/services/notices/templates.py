"""The texts of non-delivery, delay, success and verification notifications: bounce(5), bounce_template_file.

    templates = load(view)
    dump(templates, view)          what ``postconf -t`` prints
    expand_all(templates, view)    what ``postconf -b`` prints

A template is pseudo headers (Charset, From, Subject, Postmaster-Subject) and message text in which ``$name`` is the
value of a main.cf parameter; ``$delay_warning_time`` and ``$maximal_queue_lifetime`` take a suffix _seconds, _minutes,
_hours, _days or _weeks, and are divided by that. A template that is wrong is logged when it is first used, and the
built-in one takes its place: mail must be returned all the same.

Loads neither asyncio nor dataclasses: commands use this module.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.mail.headers import name_length

if TYPE_CHECKING:
    from postfixpy.config import View

FAILURE, DELAY, SUCCESS, VERIFY = "failure", "delay", "success", "verify"
KINDS = (FAILURE, DELAY, SUCCESS, VERIFY)


class Template(NamedTuple):
    """One template. `origin` is its file, for log texts; `encoding` is "7bit" or "8bit".

    `postmaster_subject` is "" where no copy goes to a postmaster; `obsolete_from` is the From: value for
    header_from_format = obsolete.
    """

    kind: str
    origin: str
    charset: str
    encoding: str
    standard_from: str
    obsolete_from: str
    subject: str
    postmaster_subject: str
    body: tuple[str, ...]

    def sender(self, header_from_format: str) -> str:
        """The From: value for a header_from_format. Raises FatalError for one that does not exist."""
        if header_from_format == "standard":
            return self.standard_from
        if header_from_format == "obsolete":
            return self.obsolete_from
        raise FatalError(f'invalid setting: "header_from_format = {header_from_format}"')


_GREETING = "This is the mail system at host $myhostname."
_SIGNATURE = "                   The mail system"
_ASSISTANCE = """\
For further assistance, please send mail to postmaster.

If you do so, please include this problem report. You can
delete your own text from the attached returned message."""

_BODIES = {
    FAILURE: f"""\
I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

{_ASSISTANCE}""",
    DELAY: f"""\
####################################################################
# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #
####################################################################

Your message could not be delivered for more than $delay_warning_time_hours hour(s).
It will be retried until it is $maximal_queue_lifetime_days day(s) old.

{_ASSISTANCE}""",
    SUCCESS: """\
Your message was successfully delivered to the destination(s)
listed below. If the message was delivered to mailbox you will
receive no further notifications. Otherwise you may still receive
notifications of mail delivery errors from other systems.""",
    VERIFY: "Enclosed is the mail delivery report that you requested.",
}
_SUBJECTS = {
    FAILURE: ("Undelivered Mail Returned to Sender", "Postmaster Copy: Undelivered Mail"),
    DELAY: ("Delayed Mail (still being retried)", "Postmaster Warning: Delayed Mail"),
    SUCCESS: ("Successful Mail Delivery Report", ""),
    VERIFY: ("Mail Delivery Status Report", ""),
}


def _built_in(kind: str) -> Template:
    return Template(
        kind,
        "[built-in]",
        "us-ascii",
        "7bit",
        "Mail Delivery System <MAILER-DAEMON>",
        "MAILER-DAEMON (Mail Delivery System)",
        *_SUBJECTS[kind],
        tuple(f"{_GREETING}\n\n{_BODIES[kind]}\n\n{_SIGNATURE}".split("\n")),
    )


BUILT_IN = {kind: _built_in(kind) for kind in KINDS}


def header_from_format(view: "View") -> str:
    """The parameter of that name, which is new in 3.7."""
    value: str = getattr(view, "header_from_format", "obsolete")
    return value


class Templates:
    """The four templates, by kind: the built-in ones, or those that were given, parsed at first use."""

    def __init__(self) -> None:
        self._ready = dict(BUILT_IN)
        self._given: dict[str, tuple[str, str]] = {}

    def replace(self, kind: str, origin: str, text: str) -> None:
        """Use `text` from file `origin` for `kind`."""
        self._given[kind] = (origin, text)

    def __getitem__(self, kind: str) -> Template:
        given = self._given.pop(kind, None)
        if given is not None:
            self._ready[kind] = parse_template(kind, *given) or BUILT_IN[kind]
        return self._ready[kind]


_SPACE = " \t\n\v\f\r"


def parse_template(kind: str, origin: str, text: str) -> Template | None:
    """The template in `text`, of file `origin`; None, after a warning, when it is not usable."""
    made = BUILT_IN[kind]._replace(origin=origin)
    lines = text.split("\n")
    position = 0

    while position < len(lines):
        line = lines[position]
        length = name_length(line.encode("utf-8", "surrogateescape"))
        if not length:
            break
        position += 1
        name, value = line[:length], line[length:].lstrip(":" + _SPACE)
        if not value:
            return _ignore(kind, origin, f'empty "{name}" header value')
        if not value.isascii():
            return _ignore(kind, origin, f'non-ASCII "{name}" header value')
        label = name.lower()
        if label == "charset":
            made = made._replace(charset=value)
        elif label == "from":
            made = made._replace(standard_from=value, obsolete_from=value)
        elif label == "subject":
            made = made._replace(subject=value)
        elif label == "postmaster-subject" and made.postmaster_subject:
            made = made._replace(postmaster_subject=value)
        else:
            known = "inapplicable" if label == "postmaster-subject" else "unknown"
            return _ignore(kind, origin, f'{known} "{name}" header label')
    while position < len(lines) and not lines[position].strip(_SPACE):
        position += 1
    body = tuple(lines[position:])
    if not body:
        return _ignore(kind, origin, "missing message text")
    if not all(line.isascii() for line in body):
        if made.charset.lower() == "us-ascii":
            log.warning(f"{origin}: 8-bit message text in {kind} template")
            log.warning("please specify a charset value other than us-ascii")
            log.warning("-- ignoring this template for now")
            return None
        made = made._replace(encoding="8bit")
    return made._replace(body=body)


def _ignore(kind: str, origin: str, problem: str) -> Template | None:
    log.warning(f"{origin}: {problem} in {kind} template -- ignoring this template")
    return None


def load(view: "View") -> Templates:
    """The templates, with those of bounce_template_file. Raises FatalError with Postfix's text."""
    templates = Templates()
    path = view.bounce_template_file
    if path:
        try:
            with open(path, "rb") as file:
                text = file.read().decode("utf-8", "surrogateescape")
        except OSError as error:
            raise FatalError(f"open {path}: {error.strerror}") from None
        parse_file(path, text, templates)
    return templates


_ASSIGNMENT = re.compile(r"[ \t\v\f\r]*(?:([^=\s][^= \t\v\f\r]*)[ \t\v\f\r]*(=?))?")


def parse_file(path: str, text: str, templates: Templates) -> None:
    """Put the templates in `text`, the content of file `path`, into `templates`. Raises FatalError.

    The line numbers in texts count from 2, as Postfix's do.
    """
    lines = text.split("\n")
    last_is_open = bool(lines.pop())  # no newline behind the last line
    if last_is_open:
        lines = text.split("\n")
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        start = line.lstrip(_SPACE)
        if not start or start.startswith("#"):
            continue
        number = position + 1
        match = _ASSIGNMENT.match(line)
        assert match is not None
        if not match[2]:
            problem = "missing '=' after attribute name" if match[1] else "missing attribute name"
            raise FatalError(f'{path}, line {number}: {problem}: "{line}"')
        name, value = match[1], line[match.end() :].strip(_SPACE)
        if value.startswith("<<"):
            marker = value[2:].lstrip(_SPACE)
            if not marker:
                raise FatalError(f"{path}, line {number}: missing end marker after <<")
            if not (marker[0].isascii() and marker[0].isalnum()):
                raise FatalError(f"{path}, line {number}: malformed end marker after <<")
            end = position
            while end < len(lines) and lines[end] != marker:
                end += 1
            if end == len(lines) or (end == len(lines) - 1 and last_is_open):
                where = min(end + 1, len(lines)) + 1
                log.warning(f'{path}, line {where}: missing "{marker}" end marker')
            value = "\n".join(lines[position:end])
            position = end + 1
            number = min(position, len(lines)) + 1
        kind = name.removesuffix("_template")
        if kind != name and kind in KINDS:
            templates.replace(kind, path, value)
        else:
            log.warning(f"{path}, line {number}: unknown template name: {name} -- ignoring this template")


_DIVISORS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800}
_TIMES = ("delay_warning_time", "maximal_queue_lifetime")


def expand(template: Template, view: "View") -> list[str]:
    """The message text with the values of `view`. Raises FatalError when it refers to what does not exist."""
    if not any("$" in line for line in template.body):
        return list(template.body)
    from postfixpy.config.expand import ExpansionError
    from postfixpy.config.expand import expand as expand_text

    known: dict[str, str | None] = {}

    def lookup(name: str) -> str | None:
        if name not in known:
            value = _value(template, view, name)
            known[name] = None if value is None else "".join(c if " " <= c != "\x7f" else "_" for c in value)
        return known[name]

    out = []
    for line in template.body:
        known.clear()
        for name in _plain_names(line):
            if lookup(name) is None:
                _refuse(template, "undefined $name", line)
        try:
            out.append(expand_text(line, lookup, release=view.release))
        except ExpansionError:
            _refuse(template, "bad $name syntax", line)
    return out


def _refuse(template: Template, problem: str, line: str) -> NoReturn:
    raise FatalError(f"{template.origin}: {problem} in {template.kind} template: {line}")


_REFERENCE = re.compile(r"\$(?:\$|([A-Za-z0-9_]+)|\{[ \t]*([A-Za-z0-9_]+)[ \t]*\}|\([ \t]*([A-Za-z0-9_]+)[ \t]*\))")


def _plain_names(line: str) -> Iterator[str]:
    """The names that `line` refers to without condition."""
    for match in _REFERENCE.finditer(line):
        name = match[1] or match[2] or match[3]
        if name:
            yield name


def _value(template: Template, view: "View", name: str) -> str | None:
    for parameter in _TIMES:
        if name.startswith(f"{parameter}_"):
            return _scaled(template, view.time(parameter), name, name[len(parameter) + 1 :])
    if name in ("myhostname", "mydomain") and view.smtputf8_enable:
        return _shown_domain(template, view.text(name), name)
    return view.raw(name)


def _scaled(template: Template, seconds: int, name: str, suffix: str) -> str:
    """A time in the unit `suffix`, whole units."""
    divisor = _DIVISORS.get(suffix)
    if divisor is None:
        raise FatalError(f'{template.origin}: unrecognized suffix "{suffix}" in parameter "{name}"')
    result = seconds // divisor
    advice = ""
    if result > 999 and divisor < 86400:
        where = f'excessive result "{result}" in {template.kind} template'
        log.warning(f'{template.origin}: {where} conversion of parameter "{name}"')
        advice = "increase"
    elif result == 0 and seconds and divisor > 1:
        log.warning(f'{template.origin}: zero result in {template.kind} template conversion of parameter "{name}"')
        advice = "reduce"
    if advice:
        log.warning(f'please {advice} time unit "{suffix}" of "{name}" in {template.kind} template')
        log.warning("for instructions see the bounce(5) manual")
    return str(result)


def _shown_domain(template: Template, domain: str, name: str) -> str:
    """A domain for people: A-labels as Unicode."""
    if not domain.isascii():
        log.warning(f'{template.origin}: conversion "{name}" failed: non-ASCII input value: "{domain}"')
        return domain
    if "xn--" not in domain.lower():
        return domain.lower()
    import idna

    try:
        return idna.decode(domain, uts46=True)
    except (idna.IDNAError, UnicodeError):
        log.warning(f'{template.origin}: conversion "{name}" failed: input value: "{domain}"')
        return domain


def dump(templates: Templates, view: "View") -> str:
    """The templates as bounce_template_file has them (postconf -t). Raises FatalError."""
    out = []
    for kind in KINDS:
        template = templates[kind]
        lines = [
            f"{kind}_template = <<EOF",
            f"Charset: {template.charset}",
            f"From: {template.sender(header_from_format(view))}",
            f"Subject: {template.subject}",
        ]
        if template.postmaster_subject:
            lines.append(f"Postmaster-Subject: {template.postmaster_subject}")
        out.append("\n".join((*lines, "", *template.body, "EOF", "")))
    return "\n".join(out)


def expand_all(templates: Templates, view: "View") -> str:
    """The message texts with their values (postconf -b). Raises FatalError."""
    out = []
    for kind in KINDS:
        lines = (f"expanded_{kind}_text = <<EOF", *expand(templates[kind], view), "EOF", "")
        out.append("\n".join(lines))
    return "\n".join(out)
