"""Strategies for main.cf, master.cf and postconf command lines: mostly plausible, sometimes broken.

"@DIR@" in any text stands for the directory of the case.
"""

from typing import NamedTuple

from hypothesis import strategies as st

from postfixpy.config.lines import encode

BUILT_IN = (
    *("myhostname", "mydomain", "myorigin", "mydestination", "relayhost", "smtpd_banner", "alias_maps", "biff"),
    *("virtual_alias_maps", "smtpd_timeout", "smtpd_restriction_classes", "default_rbl_reply", "process_name"),
    *("compatibility_level", "relay_domains", "smtp_tls_security_level", "local_destination_recipient_limit"),
    *("virtual_maps", "config_directory", "service_name", "transport_maps", "smtp_fallback_relay", "mynetworks"),
    *("smtpd_client_restrictions", "hopcount_limit", "mail_version", "smtpd_use_tls", "inet_interfaces"),
    *("inet_protocols", "mynetworks_style", "process_id", "multi_instance_directories", "multi_instance_enable"),
    *(
        "import_environment",
        "smtp_per_record_deadline",
        "disable_dns_lookups",
        "forward_path",
        "bounce_notice_recipient",
    ),
)
USER = (
    *("foo", "bar", "my_list", "a1", "Foo", "ldapx", "vldap_server_host", "vldap_bogus", "sq_query", "x.y", "slow-er"),
    *("é", "\udcff", "x" * 300, "postfix", "0", "_"),
)
SERVICE = ("slow_destination_rate_delay", "relay_initial_destination_concurrency", "pipe1_time_limit", "nix_time_limit")
NAMES = st.sampled_from(BUILT_IN) | st.sampled_from(USER) | st.sampled_from(SERVICE)
PLAIN = st.sampled_from(USER[:6] + BUILT_IN[:16])

WORDS = st.sampled_from(
    (
        *("permit", "reject", "example.org", "10.0.0.0/8", "hash:/etc/aliases", "ldap:vldap", "proxy:sqlite:sq", "yes"),
        *("no", "5", "0", "10", "3.6", "3.10", "a,b", "inline:{a=b}", "inline:{ {a = b}, {c=d} }"),
        *("regexp:{ {/x#y/ z} }", "99999999999999999999", "-1", "3.6.1", "1.2.3.4", "007", "1.2000"),
        *("ldap:/nonexistent/file.cf", "mysql:./x", "#comment", "x#y", "{", "}", "{a b}", "=", "\\", '"q"', "pcre:/x"),
        *("\x01", "é", "\udcff", "unionmap:{ldap:vldap,static:x}", "debug:ldap:vldap", "*", "memcache:{x", "a:b:c"),
        *(
            "ldap:@DIR@/t.cf",
            "proxy:mysql:@DIR@/t.cf",
            "pgsql:@DIR@",
            "sqlite:@DIR@/none",
            "pipemap:{ldap:a1,ldap:bar}",
        ),
        *(
            "mongodb:vldap",
            "proxy:debug:proxy:ldap:vldap",
            "ldap:$foo",
            "{ldap:vldap}",
            "{ {ldap:vldap} }",
            "ldap:{vldap}",
        ),
        *("randmap:{a,b}", "check_client_access ldap:vldap", "ldap:", ":", "proxy:", "w" * 90, "w" * 3000, "a,,b", "#"),
        *(
            "{x}y",
            "inline:{x}y",
            "regexp:{ldap:vldap}",
            "regexp:{{ldap:vldap}}",
            "x\x7fy",
            "a\vb",
            "a\fb",
            "\x00",
            "a\x00b",
        ),
    )
)
BLANK = st.sampled_from(
    (
        " ",
        "  ",
        "\t",
        ", ",
        "\n ",
        "\n\t",
        "\n# comment\n  ",
        "\n\n ",
        "\r\n ",
        " \x0b",
        "",
        "\n  # indented\n ",
        "\n \r\n\t",
    )
)
OPERATOR = st.sampled_from(
    (
        *(
            "==",
            "!=",
            "<",
            "<=",
            ">=",
            ">",
            "<level",
            ">=level",
            "=~",
            "<foo",
            " == ",
            "  <  ",
            "",
            "==level",
            "!=level",
        ),
        *(">level", "<=level", " <level ", "< level", "<=> ", "=", "\t==\r", "==x", "level"),
    )
)


def references(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """All forms of "$"."""
    text = values
    group = text.map(lambda t: "{" + t + "}")
    operand = group | st.sampled_from(("{1}", "{2}", "{10}", "{abc}", "{3.6}", "{}", "2", "{ 1 }", "{3.10}", "{{1}}"))
    compared = st.tuples(operand, OPERATOR, operand).map("".join)
    subject = PLAIN | compared | st.sampled_from((" foo ", "foo bar", "a-b", "", " ", "\tfoo\r", "foo\v", "é"))
    tail = st.one_of(
        st.just(""),
        st.tuples(st.sampled_from("?:"), text).map("".join),
        st.tuples(st.sampled_from(("?", ":", " ? ", " : ")), group).map("".join),
        st.tuples(st.just("?"), group, st.just(":"), group | text).map("".join),
        st.tuples(st.just(" ? "), group, st.just(" : "), group, st.sampled_from(("", " ", " junk"))).map("".join),
        st.tuples(st.just("?"), group, st.just("junk")).map("".join),
        st.tuples(st.just(":"), group, st.sampled_from(("junk", "?{a}", ":{b}"))).map("".join),
        st.tuples(st.just("?"), text, st.just(":"), group).map("".join),
    )
    return st.one_of(
        PLAIN.map(lambda n: "$" + n),
        PLAIN.map(lambda n: "${" + n + "}"),
        PLAIN.map(lambda n: "$(" + n + ")"),
        st.tuples(subject, tail).map(lambda p: "${" + "".join(p) + "}"),
        st.tuples(subject, tail).map(lambda p: "${" + "".join(p) + "}"),
        st.tuples(subject, tail).map(lambda p: "$(" + "".join(p) + ")"),
        st.tuples(
            st.sampled_from(("domain_to_ascii", "foo", " domain_to_ascii ")), group, st.sampled_from(("", " x"))
        ).map(lambda p: "${" + "".join(p) + "}"),
        st.sampled_from(
            ("$$", "$", "${", "${}", "$-", "$(foo", "${foo?{a}", "${domain_to_ascii{foo}}", "$()", "$$$foo")
        ),
        st.sampled_from(
            ("${${foo}}", "$(foo}", "${foo)", "${foo?${bar:x}}", "${a?{b}:{c}}", "${foo}}", "$$foo", "${ }")
        ),
    )


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(parts, BLANK).map("".join), max_size=4).map("".join)


_plain = PLAIN.map(lambda n: "$" + n)
_good = st.one_of(
    PLAIN.map(lambda n: "${" + n + "}"),
    st.tuples(PLAIN, st.sampled_from("?:"), WORDS).map(lambda p: "${" + p[0] + p[1] + "{" + p[2].strip("{}") + "}}"),
    st.tuples(PLAIN, _plain, _plain).map(lambda p: "${{$" + p[0] + "} == {" + p[1] + "} ? {x " + p[2] + "} : {y}}"),
)
_wild = st.recursive(WORDS, lambda inner: WORDS | references(inner.map(lambda t: t.replace("\n", " "))), max_leaves=6)
VALUES = _joined(st.one_of(*[WORDS] * 4, _plain, _plain, _good, _good, _wild))
"""Values that may go over several lines."""
_setting = st.tuples(NAMES, st.just(" = "), VALUES).map("".join)
_odd_lines = st.sampled_from(
    (
        *("", "# comment", "  ", " continued?", "biff = no\r", "novalue", "= value", "two words = x", "\f", "", "# x"),
        *("\r", "#é", " # c", "biff = \x00", "\x00biff = no", "biff\x00 = no", "biff = no\x00 = yes", "#\x00"),
    )
)
LINES = st.one_of(
    st.tuples(NAMES, st.sampled_from((" = ", "=", " =", "\t=\n ", " = ", "\v=\f", " =\r")), VALUES).map("".join),
    *[_setting] * 20,
    _odd_lines,
)

NETWORK = {
    "inet_interfaces": (
        "all",
        "loopback-only",
        "127.0.0.1",
        "127.0.0.1, [::1]",
        "10.254.254.254",
        "",
        "$foo",
        "::1 127.0.0.1",
    ),
    "inet_protocols": ("all", "ipv4", "ipv6", "ipv4, ipv6", "IPV4", "foo", "", "ipv4,foo", "${foo}", "all ipv4"),
    "mynetworks_style": ("subnet", "host", "class", "foo", "host,subnet", "", "$foo", "Host"),
}
"""Settings whose defaults ask the network are kept to values that need no name service."""


def _safe(text: str) -> str:
    out = []
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        known = NETWORK.get(name.strip("\0 \t\v\f\r"))
        if known and equals:
            line = f"{name}= {known[len(value) % len(known)]}"
        out.append(line)
    return "\n".join(out)


MAIN = st.tuples(
    st.lists(LINES, max_size=8),
    st.sampled_from(("\n", "\n", "\n", "\n", "", "\n\n", "\r\n")),
    st.sampled_from(("", "", "", "\r")),
).map(lambda parts: _safe(f"{parts[2]}\n".join(parts[0]) + parts[1]))

SETTING = st.tuples(
    NAMES,
    st.just("="),
    st.sampled_from(("x", "", "$foo", "${bar?y}", "a,b", "$process_name", "$service_name", "ldap:vldap")),
)
OPTION = st.one_of(
    SETTING.map(lambda s: "-o " + "".join(s)),
    SETTING.map(lambda s: "-o {" + " ".join(s) + " z}"),
    SETTING.map(lambda s: "-o" + "".join(s)),
    SETTING.map(lambda s: "-o{" + " ".join(s) + " z}"),
    st.tuples(SETTING.map("".join), VALUES).map(lambda p: "-o {" + p[0] + p[1].replace("\n", "\n ") + "}"),
    st.sampled_from(("-v", "-D", "-o", "-v -v", "--", "-vo a=b", "user=x", "argv=/bin/y {a b} {c d}", "{x y}", "{z")),
    st.sampled_from(("-o { a = b }x", "-o {novalue}", "flags=${foo}", "\n  -o foo=1", "\n# c\n -o bar=2\n", "-o =x")),
    st.sampled_from(
        ("-o foo", "{}", "{ }", "}", "{a}{b}", "-o {}", "-vo{a=b c}", "-vvo a = b", "-xoyoz", "-o foo = 1", "é\udcff")
    ),
    st.sampled_from(
        ("x" * 75, "-o foo=" + "y" * 70, "argv=" + "z" * 6000, "\r", "-o foo={a b}", "-o bar={a", "\x00", "-ooo")
    ),
)
ROW = st.tuples(
    st.sampled_from(
        ("smtp", "slow", "relay", "pipe1", "127.0.0.1:25", "cleanup", "a=b", "slow-er", "[::1]:smtp", "x/y", "*", "é")
    ),
    st.sampled_from(("inet", "unix", "unix", "unix", "pass", "fifo", "unix-dgram") * 4 + ("udp", "-")),
    st.sampled_from(("n", "-", "y", "n", "-") * 5 + ("0",)),
    st.sampled_from(("n", "-", "-", "-")),
    st.sampled_from(("n", "y", "n", "n")),
    st.sampled_from(("-", "60", "60?", "-", "300") * 4 + ("5x", "?")),
    st.sampled_from(("-", "0", "1", "20", "01") * 5 + ("-1",)),
    st.sampled_from(
        ("smtp", "smtpd", "lmtp", "pipe", "spawn", "local", "virtual", "/x/smtp", "error", "discard", "postscreen")
    ),
    st.lists(OPTION, max_size=3).map(" ".join),
).map(lambda words: " ".join(words))
MASTER_LINES = st.one_of(
    *[ROW] * 16, st.sampled_from(("# comment", "", "too few fields", " odd", "\r", "# é", "smtp", " # x", "\f"))
)
MASTER = st.tuples(st.lists(MASTER_LINES, max_size=5), st.sampled_from(("\n", "\n", "\n", "\r\n"))).map(
    lambda parts: "".join(row + parts[1] for row in parts[0])
)

PATTERNS = st.sampled_from(
    (
        *(
            "smtp",
            "smtp/inet",
            "*/unix",
            "*/*/command",
            "slow/unix/foo",
            "*",
            "*/*",
            "*/*/*",
            "/",
            "smtp/",
            "/smtp",
            "smtp//inet",
        ),
        *(
            "smtp/inet/chroot",
            "sm*",
            "*/in*",
            "smtp/inet/*",
            "smtp.inet",
            "inet",
            "*/*/smtpd_banner",
            "a/b/c/d",
            "",
            " smtp",
        ),
        *(
            "slow/unix/service",
            "smtp/inet/biff",
            "nix/unix",
            "*/inet/process_limit",
            "*/unix/foo",
            "relay/unix/Command",
        ),
    )
)
ARGUMENTS = st.lists(NAMES | PATTERNS, max_size=3)
OVERRIDE = st.tuples(
    NAMES, st.sampled_from(("=", " = ", "= ")), st.sampled_from(("x", "", "$bar", "a  b", "${foo?{x}:{y}}", "#c", "="))
).map(lambda parts: _safe("".join(parts))) | st.sampled_from(
    ("novalue", "=x", "a b=c", "", "{foo=1}", "foo=1\nbar=2", "process_name=x")
)
CLASSES = st.sampled_from(
    ("user", "builtin", "service", "user,builtin", "USER service", "all", "bogus", "", ",", "user;x", "All")
)

_OLD = "-n/-n/-n/-nx/-nf/-nh/-nH/-x/-nxf/-M/-Mf/-Mx/-Mxf/-F/-Ff/-Fx/-FH/-Fh/-P/-Px/-PH/-Ph/-Pf/-d/-nxh//-h/-H/-f/-dx"
_OLD += "/-df/-dh/-Fxf/-Fxh/-Pxf/-Pxh/-pn/-P -P"
_NEW = "-nj/-nxj/-j/-dj/-Mj/-Mxj/-Fj/-Fxj/-Pj/-Pxj/-nq/-Mq/-PP/-PPx/-PPf/-PPh/-PPH/-PPj/-PxP/-xq/-PPq"
_extra_options = st.one_of(
    *[st.just([])] * 4, CLASSES.map(lambda word: ["-C", word]), st.lists(OVERRIDE, min_size=1, max_size=2).map(
        lambda words: [part for word in words for part in ("-o", word)]
    )
)  # fmt: skip


def _listings(options: str) -> st.SearchStrategy[list[str]]:
    chosen = st.sampled_from(options.split("/")).map(str.split)
    return st.tuples(chosen, _extra_options, ARGUMENTS).map(lambda parts: parts[0] + parts[1] + parts[2])


LISTINGS = _listings(_OLD)
NEW_LISTINGS = _listings(_NEW)
"""With options that came after 3.7."""

_bundle = st.lists(st.sampled_from("aAdeEfFhHjlmMnpPqxX#"), min_size=1, max_size=4).map(
    lambda letters: "-" + "".join(letters)
)
_option = st.one_of(
    *[_bundle.map(lambda word: [word])] * 4,
    CLASSES.map(lambda word: ["-C", word]),
    CLASSES.map(lambda word: ["-nC" + word]),
    OVERRIDE.map(lambda word: ["-o", word]),
    OVERRIDE.map(lambda word: ["-xo" + word]),
    st.sampled_from(
        (
            ["--"],
            ["-"],
            ["-z"],
            ["-:"],
            ["-o"],
            ["-C"],
            ["-T"],
            ["-c"],
            ["-T", "x"],
            ["-é"],
            ["-W;"],
            ["-;"],
            ["-T", ""],
        )
    ),
    st.sampled_from(
        (["-T", "public-key-algorithms"], ["-Tx", "-T", "y"], ["-c", "@DIR@"], ["-c", "none"], ["-c", ""], ["-c."])
    ),
)
_edit_words = st.sampled_from(
    (
        "biff=no",
        "foo",
        "smtp/inet=smtp inet n - n - - smtpd",
        "smtp/inet/chroot=y",
        "*/*/foo=1",
        "=",
        "a=b=c",
        "a=b\nc=d",
    )
)
SOUP = st.tuples(st.lists(_option, max_size=4), st.lists(NAMES | PATTERNS | _edit_words, max_size=3)).map(
    lambda parts: [word for words in parts[0] for word in words] + parts[1]
)
"""Options that need not go together."""

TARGET = st.sampled_from(
    ("smtp/inet", "slow/unix", "*/unix", "*/*", "nix/unix", "smtp", "slow-er/unix", "a=b/unix", " smtp/inet ", "*/inet")
)
FIELD = st.sampled_from(
    ("chroot", "wakeup", "process_limit", "command", "private", "service", "type", "bogus", "*", "unprivileged")
)
_field_values = st.sampled_from(
    (
        "y",
        "n",
        "5",
        "pipe -v {a b} -o x=1",
        "a b",
        "60?",
        "",
        "-",
        "inet",
        "smtpd -o { a = b c }",
        "{a b}",
        "é",
        " x",
        "$foo",
        "x" * 90,
    )
)
EDITS = st.one_of(
    st.lists(st.tuples(NAMES, st.sampled_from(("=", " = ")), VALUES).map("".join), min_size=1, max_size=3).map(
        lambda settings: ["-e", *(setting.replace("\n", " ") for setting in settings)]
    ),
    st.lists(st.tuples(NAMES, st.sampled_from(("=", " = ")), WORDS).map("".join), min_size=1, max_size=4),
    st.tuples(
        st.sampled_from(("-X", "-#")),
        st.lists(NAMES | st.sampled_from(("foo ", "", "foo=1", "#x", " biff", "a\nb")), max_size=4),
    ).map(lambda parts: [parts[0], *parts[1]]),
    st.lists(st.tuples(TARGET, ROW).map("=".join), min_size=1, max_size=2).map(
        lambda words: ["-M", *(word.replace("\n", " ") for word in words)]
    ),
    st.tuples(st.sampled_from(("-MX", "-M#", "-Me", "-MX#")), st.lists(TARGET, max_size=2)).map(
        lambda p: [p[0], *p[1]]
    ),
    st.lists(
        st.tuples(TARGET, FIELD, _field_values).map(lambda p: f"{p[0]}/{p[1]}={p[2]}"), min_size=1, max_size=3
    ).map(lambda words: ["-F", *words]),
    st.tuples(st.sampled_from(("-FX", "-F#")), TARGET, FIELD).map(lambda p: [p[0], f"{p[1]}/{p[2]}"]),
    st.lists(
        st.tuples(TARGET, NAMES, st.sampled_from(("1", "", "a b", "$x", "{a", "é", "a=b", " x "))).map(
            lambda p: f"{p[0]}/{p[1]}={p[2]}"
        ),
        min_size=1,
        max_size=3,
    ).map(lambda words: ["-P", *words]),
    st.tuples(
        st.sampled_from(("-PX", "-PX", "-PX", "-P#", "-PPX")),
        st.lists(st.tuples(TARGET, NAMES).map("/".join), max_size=3),
    ).map(lambda p: [p[0], *p[1]]),
)


class Case(NamedTuple):
    """A directory (None for a file that is missing, "/" for one that is a directory), and a command in it."""

    files: dict[str, str | None]
    words: list[str]
    environment: dict[str, str]

    def __repr__(self) -> str:
        text = f"Case({self.files!r}, {self.words!r}, {self.environment!r})"
        return text if len(text) < 20_000 else f"{text[:20_000]}..."


_odd = st.sampled_from((None, "/", ""))
_place = st.sampled_from((["-c", "."], ["-c."], ["-c", "./"], ["-c", "@DIR@"], ["-c", ".//.", "-c", "."], []))
_client = st.sampled_from(
    ("", "server_host = x\nbogus = 1\n", "hosts=x\nhosts=y\nnovalue\n", "query = $foo\nzz = 1\naa = 2\n", None, "/")
)
_stale = st.sampled_from((*[{}] * 12, {"main.cf.tmp": "left", "master.cf.tmp": "over"}, {"main.cf.tmp": "/"}))


def _case(parts: tuple[str, str, list[str], list[str], str, str | None, dict[str, str], str]) -> Case:
    main, master, place, words, odd_file, odd, stale, client = parts
    files: dict[str, str | None] = {"main.cf": main, "master.cf": master, **stale}
    if odd_file:
        files[odd_file] = odd
    if any("t.cf" in text for text in (main, master, *words)):
        files["t.cf"] = client
    arguments = [encode(word).replace(b"\0", b"").decode("utf-8", "surrogateescape") for word in (*place, *words)]
    return Case(files, arguments, {} if place else {"MAIL_CONFIG": "@DIR@" if len(main) % 2 else "."})


def cases(words: st.SearchStrategy[list[str]]) -> st.SearchStrategy[Case]:
    """Cases with any of these command lines."""
    odd_file = st.sampled_from(("", "", "", "", "", "", "", "", "", "", "main.cf", "master.cf"))
    return st.tuples(MAIN, MASTER, _place, words, odd_file, _odd, _stale, _client).map(_case)
