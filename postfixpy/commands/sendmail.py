"""sendmail(1): submits mail, the way every program on a UNIX system expects it; also mailq and newaliases.

    sendmail [options] [recipient ...] < message

-t                recipients from To:, Cc:, Bcc: (or Resent-To: ...), added to those named
-f, -r sender     envelope sender              -F name       full name
-i, -oi           a line with only "." is text, not the end
-N, -R, -V, -XV   DSN notifications, what they return, envelope id; VERP
-B 7BIT|8BITMIME  the body's encoding          -G            mail from a gateway: addresses are not completed
-v                report on the delivery       -bv           report on what the delivery would do
-bp, -q, -qRsite, -qIid, -bi, -bd, -bs         queue list, flush, newaliases, start Postfix, SMTP on standard input
-C config, -O x=y; others are accepted and mean nothing, as in Postfix

The message is written as postdrop(1) records. Mode by program name: sendmail, mailq, newaliases, smtpd.

Differs from Postfix: where the user may write the maildrop queue, the checks of postdrop run in this process, and no
other is started; else the set-gid postdrop of $command_directory is run as in Postfix. -bs is a plain SMTP session of
our own (postfixpy.services.standalone). -C is not limited to alternate_config_directories: this program has no
privileges that a foreign configuration could abuse; a real postdrop checks for itself.

The exit status is 0, or 75 (EX_TEMPFAIL) for every error, as in Postfix.
"""

import os
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol

from postfixpy import log
from postfixpy.errors import FatalError, TemporaryError

if TYPE_CHECKING:
    from postfixpy.config import View

EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_SOFTWARE, EX_OSERR = 64, 65, 66, 69, 70, 71
EX_TEMPFAIL, EX_NOPERM = 75, 77

LETTERS = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx"

USER_VERIFY, RECORD = 0x200, 0x400
"""Trace flags: sendmail -bv, sendmail -v."""


class Options:
    """What the command line asks for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mode = {"mailq": "mailq", "newaliases": "newaliases", "smtpd": "daemon"}.get(name, "enqueue")
        self.sender: str | None = None
        self.full_name: str | None = None
        self.encoding = ""
        self.context = "local"
        self.dot_ends = True
        self.extract = False
        self.notify = 0
        self.ret = 0
        self.envid = ""
        self.verp: str | None = None
        self.trace = 0
        self.verbose = 0
        self.sendopts = 0
        self.site: str | None = None
        self.queue_id: str | None = None
        self.interval = ""
        self.alias_map: str | None = None
        self.words: list[str] = []


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    name = os.path.basename(argv[0]) or argv[0]
    stderr = log.stderr_sink(name)
    log.set_sink(stderr)
    try:
        return _run(name, argv[1:])
    except (FatalError, TemporaryError) as error:
        # Whatever is wrong, real sendmail ends with 75, so that the caller keeps the message and tries again.
        log.fatal(str(error))
        return EX_TEMPFAIL
    finally:
        from .submit_access import log_to

        log_to(stderr)


def _usage(text: str) -> NoReturn:
    raise FatalError(text, EX_USAGE)


# Options


BAD = "?"
"""The letter that stands for an option that cannot be; its argument is what is wrong."""

DEPRECATED = "!"
"""The letter that stands for an old form of -V; its argument is what to tell."""


def _scan(arguments: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The options in order and the words behind them. "-q" alone has no argument, and old forms of -V become -X.

    Nothing is said yet: the configuration that tells where the log goes is named by an option.
    """
    found: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest:
        if rest[0] == "-q":
            found.append(("q", ""))
            del rest[0]
            continue
        if rest[0] == "-V" and len(rest) > 1 and len(rest[1]) == 2:
            found.append((DEPRECATED, "option -V is deprecated with Postfix 2.3; specify -XV instead"))
            rest[0] = "-XV"
        if rest[0].startswith("-V") and len(rest[0]) == 4:
            text = f"option {rest[0]} is deprecated with Postfix 2.3; specify -X{rest[0][1:]} instead"
            found.append((DEPRECATED, text))
            rest[0] = "-X" + rest[0][1:]
        if rest[0] == "-XV":
            found.append(("X", "V"))
            del rest[0]
            continue
        if len(rest[0]) < 2 or rest[0][0] != "-":
            break
        if rest[0] == "--":
            return found, rest[1:]
        _scan_word(rest, found)
    return found, rest


def _scan_word(rest: list[str], found: list[tuple[str, str]]) -> None:
    """Take one word of options, and the argument of its last one: getopt(3), which goes on behind a bad option."""
    letters = rest.pop(0)[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        index = LETTERS.find(letter)
        if index < 0 or letter == ":":
            found.append((BAD, letter))
        elif LETTERS[index + 1 : index + 2] != ":":
            found.append((letter, ""))
        elif letters or rest:
            found.append((letter, letters or rest.pop(0)))
            return
        else:
            found.append((BAD, letter))


def _tell_bad_option(name: str, letter: str) -> None:
    known = letter in LETTERS and letter != ":"
    what = f"option requires an argument -- '{letter}'" if known else f"invalid option -- '{letter}'"
    sys.stderr.write(f"{name}: {what}\n")


def _configure(found: list[tuple[str, str]], name: str) -> "View":
    """The configuration that -C or the environment names."""
    for letter, value in found:
        if letter == "C":
            directory = value
            if os.path.basename(value) == "main.cf":
                directory = os.path.dirname(value) or "."
            os.environ["MAIL_CONFIG"] = directory
    from postfixpy.config import load
    from postfixpy.ipc.startup import check
    from postfixpy.services.cleaning.releases import complete

    view = load().view(process_name=name)
    check(view)
    return complete(view)


def _options(name: str, found: list[tuple[str, str]], words: list[str], view: "View") -> Options:
    options = Options(name)
    options.words = words
    for letter, value in found:
        if letter == BAD:
            _tell_bad_option(name, value)
            _usage(f"usage: {name} [options]")
        _option(options, letter, value, view)
    if options.extract and options.mode != "enqueue":
        _usage("-t can be used only in delivery mode")
    if options.site is not None and options.mode != "enqueue":
        _usage("-qR can be used only in delivery mode")
    if options.queue_id is not None and options.mode != "enqueue":
        _usage("-qI can be used only in delivery mode")
    if options.trace & USER_VERIFY:
        for given, flag in (
            (options.extract, "-t"),
            (options.notify, "-N"),
            (options.ret, "-R"),
            (options.verbose == 1, "-v"),
        ):
            if given:
                _usage(f"{flag} option cannot be used with -bv")
    if options.verbose == 1 and options.mode == "enqueue":
        options.verbose = 0
        options.trace |= RECORD
    return options


def _option(options: Options, letter: str, value: str, view: "View") -> None:
    match letter:
        case "!":
            log.warning(value)
        case "n":
            _usage("-n option not supported")
        case "B":
            encodings = {"8BITMIME": "8bit", "7BIT": "7bit"}
            if value not in encodings:
                _usage("-B option needs 8BITMIME or 7BIT")
            options.encoding = encodings[value]
        case "F":
            options.full_name = value
        case "G":
            options.context = "remote"
        case "I":
            options.mode = "newaliases"
        case "N":
            options.notify = notify_mask(value)
            if not options.notify:
                shown = f": '{value}'" if view.release >= (3, 10) else ""
                log.warning(f"bad -N option value{shown} -- ignored")
        case "O":
            _long_option(options, value, view)
        case "R":
            options.ret = {"FULL": 1, "HDRS": 2}.get(value.upper(), 0)
            if not options.ret:
                log.warning("bad -R option value -- ignored")
        case "V":
            _envelope_id(options, value)
        case "X":
            _verp(options, value, view)
        case "b":
            _mode(options, value)
        case "f" | "r":
            options.sender = value
        case "i":
            options.dot_ends = False
        case "o":
            if value.startswith("A"):
                if value == "A":
                    _usage("-oA requires pathname")
                options.alias_map = value[1:]
            elif value.startswith("i"):
                options.dot_ends = False
        case "q":
            _queue_option(options, value)
        case "t":
            options.extract = True
        case "v":
            options.verbose += 1


def notify_mask(text: str) -> int:
    """The NOTIFY_* bits of a list such as ``success,failure``; 0 when it is not valid."""
    bits = {"NEVER": 1, "SUCCESS": 2, "FAILURE": 4, "DELAY": 8}
    mask = 0
    for word in text.replace(",", " ").split():
        if word.upper() not in bits:
            log.warning(f'unknown DSN NOTIFY command value "{word}" in "{text}"')
            return 0
        mask |= bits[word.upper()]
    return mask if mask == 1 or not mask & 1 else 0


def _long_option(options: Options, text: str, view: "View") -> None:
    name, _, value = text.partition("=")
    bits = {"REQUIRETLS": (32, "requiretls_enable"), "SMTPUTF8": (1, "smtputf8_enable")}
    if name.upper() not in bits:
        return
    bit, parameter = bits[name.upper()]
    if not getattr(view, parameter):
        if bit == 32:
            log.warning(f"Ignoring option '-O {text}, because the configuration is '{parameter} = no'")
        else:
            log.warning(f"'-O {text}' was requested, but the configuration is '{parameter} = no'")
    elif value.lower() == "yes":
        options.sendopts |= bit
    elif value.lower() == "no":
        options.sendopts &= ~bit
    else:
        log.warning(f"bad -O option: '{text}' -- ignored")


def _envelope_id(options: Options, value: str) -> None:
    if len(os.fsencode(value)) > 100:
        log.warning("too long -V option value -- ignored")
    elif not value or not all(" " <= c <= "~" or c == "\t" for c in value):
        log.warning("bad syntax in -V option value -- ignored")
    else:
        options.envid = value


def _verp(options: Options, value: str, view: "View") -> None:
    if not value.startswith("V"):
        _usage(f"unsupported: -X{value[:1]}")
    delimiters = value[1:] or view.default_verp_delimiters
    allowed = view.verp_delimiter_filter
    if value[1:] and (len(delimiters) != 2 or delimiters[0] not in allowed or delimiters[1] not in allowed):
        _usage(f"-V requires two characters from {allowed}")
    options.verp = delimiters


def _mode(options: Options, value: str) -> None:
    letter = value[:1]
    if letter == "v":
        options.trace |= USER_VERIFY
        return
    modes = {
        "d": "daemon",
        "l": "daemon",
        "h": "ignore",
        "H": "ignore",
        "i": "newaliases",
        "m": "enqueue",
        "p": "mailq",
        "s": "user",
    }
    if letter not in modes:
        _usage(f"unsupported: -b{letter}")
    if modes[letter] == "daemon" and options.mode == "flush":
        log.warning("ignoring -q option in daemon mode")
    options.mode = modes[letter]


def _queue_option(options: Options, value: str) -> None:
    if not value:
        if options.mode == "daemon":
            log.warning("ignoring -q option in daemon mode")
        else:
            options.mode = "flush"
    elif value[0] in "0123456789":
        options.interval = value
    elif value[0] == "R":
        if value == "R":
            _usage("specify: -qRsitename")
        options.site = value[1:]
    elif value[0] == "I":
        if value == "I":
            _usage("specify: -qIqueueid")
        options.queue_id = value[1:]
    else:
        _usage(f"-q{value[0]} is not implemented")


# What to do


def _run(name: str, arguments: list[str]) -> int:
    os.umask(0o022)
    _open_standard_descriptors()
    found, words = _scan(arguments)
    for letter, value in found:
        if letter == BAD:
            _tell_bad_option(name, value)  # Postfix reads the options twice, first all of them for -C
    try:
        view = _configure(found, name)
    except FatalError:
        for letter, value in found:
            if letter == DEPRECATED:
                log.warning(value)  # which Postfix tells before it reads main.cf
        raise
    from .submit_access import log_as

    log_as(name, view)
    try:
        os.chdir(view.queue_directory)
    except OSError as error:
        raise FatalError(f"chdir {view.queue_directory}: {error.strerror}", EX_UNAVAILABLE) from None
    options = _options(name, found, words, view)
    if options.interval and options.mode != "daemon":
        return 0
    return _DO[options.mode](options, view)


def _open_standard_descriptors() -> None:
    """A caller may have closed them; the queue file must not become one of them."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)


def _no_words(options: Options, text: str) -> None:
    if options.words:
        _usage(f"{text} requires no recipient")


def _other(module: str, argv: list[str], options: Options) -> int:
    """Run another command of ours in this process."""
    import importlib

    verbose = ["-v"] * options.verbose
    return int(importlib.import_module(f"postfixpy.commands.{module}").main([argv[0], *verbose, *argv[1:]]))


def _enqueue(options: Options, view: "View") -> int:
    if options.site is not None:
        _no_words(options, "flush site")
        return _other("postqueue", ["postqueue", "-s", options.site], options)
    if options.queue_id is not None:
        _no_words(options, "flush queue_id")
        return _other("postqueue", ["postqueue", "-i", options.queue_id], options)
    _check_user(view)
    from .submission import submit

    submit(options, view)
    return 0


def _check_user(view: "View") -> None:
    from .submit_access import forbidden_user

    uid = os.getuid()
    name = forbidden_user(view, uid)
    if name:
        raise FatalError(f"User {name}({uid}) is not allowed to submit mail", EX_NOPERM)


def _mailq(options: Options, view: "View") -> int:
    _no_words(options, "display queue mode")
    return _other("postqueue", ["postqueue", "-p"], options)


def _flush(options: Options, view: "View") -> int:
    _no_words(options, "flush queue mode")
    return _other("postqueue", ["postqueue", "-f"], options)


def _daemon(options: Options, view: "View") -> int:
    _no_words(options, "daemon mode")
    return _other("postfix", ["postfix", "start"], options)


def _newaliases(options: Options, view: "View") -> int:
    _no_words(options, "alias initialization mode")
    if options.alias_map is None and not view.alias_database:
        return 0
    files = [options.alias_map] if options.alias_map is not None else view.alias_database.replace(",", " ").split()
    return _other("postalias", ["postalias", "--", *files], options)


def _user(options: Options, view: "View") -> int:
    _no_words(options, "stand-alone mode")
    _check_user(view)
    from postfixpy.services.standalone.conversation import converse

    from .submission import open_drop

    uid = os.getuid()
    return converse(view, lambda: open_drop(view, uid, f"smtpd({uid})"))


def _ignore(options: Options, view: "View") -> int:
    return 0


class _Action(Protocol):
    def __call__(self, options: Options, view: "View") -> int: ...


_DO: dict[str, _Action] = {
    "enqueue": _enqueue,
    "mailq": _mailq,
    "flush": _flush,
    "daemon": _daemon,
    "newaliases": _newaliases,
    "user": _user,
    "ignore": _ignore,
}
