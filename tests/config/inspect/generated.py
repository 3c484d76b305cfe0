"""Strategies for main.cf, master.cf and postconf command lines: mostly plausible, sometimes broken."""

from hypothesis import strategies as st

BUILT_IN = (
    *("myhostname", "mydomain", "myorigin", "mydestination", "relayhost", "smtpd_banner", "alias_maps", "biff"),
    *("virtual_alias_maps", "smtpd_timeout", "smtpd_restriction_classes", "default_rbl_reply", "process_name"),
    *("compatibility_level", "relay_domains", "smtp_tls_security_level", "local_destination_recipient_limit"),
    *("virtual_maps", "config_directory", "service_name", "transport_maps", "smtp_fallback_relay", "mynetworks"),
    *("smtpd_client_restrictions", "hopcount_limit", "mail_version", "smtpd_use_tls", "inet_interfaces"),
)
USER = ("foo", "bar", "my_list", "a1", "Foo", "ldapx", "vldap_server_host", "vldap_bogus", "sq_query", "x.y", "slow-er")
SERVICE = ("slow_destination_rate_delay", "relay_initial_destination_concurrency", "pipe1_time_limit", "nix_time_limit")
NAMES = st.sampled_from(BUILT_IN) | st.sampled_from(USER) | st.sampled_from(SERVICE)
PLAIN = st.sampled_from(USER[:6] + BUILT_IN[:16])

WORDS = st.sampled_from(
    (
        *("permit", "reject", "example.org", "10.0.0.0/8", "hash:/etc/aliases", "ldap:vldap", "proxy:sqlite:sq", "yes"),
        *(
            "no",
            "5",
            "0",
            "10",
            "3.6",
            "3.10",
            "a,b",
            "inline:{a=b}",
            "inline:{ {a = b}, {c=d} }",
            "regexp:{ {/x#y/ z} }",
        ),
        *("ldap:/nonexistent/file.cf", "mysql:./x", "#comment", "x#y", "{", "}", "{a b}", "=", "\\", '"q"', "pcre:/x"),
        *("\x01", "é", "\udcff", "unionmap:{ldap:vldap,static:x}", "debug:ldap:vldap", "*", "memcache:{x", "a:b:c"),
    )
)
BLANK = st.sampled_from((" ", "  ", "\t", ", ", "\n ", "\n\t", "\n# comment\n  ", "\n\n ", "\r\n ", " \x0b", ""))
OPERATOR = st.sampled_from(("==", "!=", "<", "<=", ">=", ">", "<level", ">=level", "=~", "<foo", " == ", "  <  ", ""))


def references(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """All forms of "$"."""
    text = values
    group = text.map(lambda t: "{" + t + "}")
    operand = group | st.sampled_from(("{1}", "{2}", "{10}", "{abc}", "{3.6}", "{}", "2"))
    compared = st.tuples(operand, OPERATOR, operand).map("".join)
    subject = PLAIN | compared | st.sampled_from((" foo ", "foo bar", "a-b", ""))
    tail = st.one_of(
        st.just(""),
        st.tuples(st.sampled_from("?:"), text).map("".join),
        st.tuples(st.sampled_from("?:"), group).map("".join),
        st.tuples(st.just("?"), group, st.just(":"), group | text).map("".join),
        st.tuples(st.just(" ? "), group, st.just(" : "), group, st.sampled_from(("", " ", " junk"))).map("".join),
        st.tuples(st.just("?"), group, st.just("junk")).map("".join),
    )
    return st.one_of(
        PLAIN.map(lambda n: "$" + n),
        PLAIN.map(lambda n: "${" + n + "}"),
        PLAIN.map(lambda n: "$(" + n + ")"),
        st.tuples(subject, tail).map(lambda p: "${" + "".join(p) + "}"),
        st.sampled_from(("$$", "$", "${", "${}", "$-", "$(foo", "${foo?{a}", "${domain_to_ascii{foo}}")),
    )


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(parts, BLANK).map("".join), max_size=4).map("".join)


_calm = st.recursive(WORDS, lambda inner: WORDS | references(inner.map(lambda t: t.replace("\n", " "))), max_leaves=4)
VALUES = _joined(st.one_of(WORDS, PLAIN.map(lambda n: "$" + n), _calm))
LINES = st.one_of(
    st.tuples(NAMES, st.sampled_from((" = ", "=", " =", "\t=\n ", " = ")), VALUES).map("".join),
    st.tuples(NAMES, st.just(" = "), VALUES).map("".join),
    st.tuples(NAMES, st.just(" = "), VALUES).map("".join),
    st.tuples(NAMES, st.just(" = "), VALUES).map("".join),
    st.sampled_from(("", "# comment", "  ", " continued?", "biff = no\r", "novalue", "= value", "two words = x", "\f")),
)


def _safe(text: str) -> str:
    """Settings whose defaults ask the network are kept to values that need no name service."""
    out = []
    for line in text.split("\n"):
        name = line.split("=")[0].strip()
        if name == "inet_interfaces":
            line = "inet_interfaces = loopback-only"
        out.append(line)
    return "\n".join(out)


MAIN = st.tuples(st.lists(LINES, max_size=8), st.sampled_from(("\n", "\n", "\n", ""))).map(
    lambda parts: _safe("\n".join(parts[0]) + parts[1])
)

SETTING = st.tuples(NAMES, st.just("="), st.sampled_from(("x", "", "$foo", "${bar?y}", "a,b", "$process_name")))
OPTION = st.one_of(
    SETTING.map(lambda s: "-o " + "".join(s)),
    SETTING.map(lambda s: "-o {" + " ".join(s) + " z}"),
    SETTING.map(lambda s: "-o" + "".join(s)),
    st.sampled_from(("-v", "-D", "-o", "-v -v", "--", "-vo a=b", "user=x", "argv=/bin/y {a b} {c d}", "{x y}", "{z")),
    st.sampled_from(("-o { a = b }x", "-o {novalue}", "flags=${foo}", "\n  -o foo=1", "\n# c\n -o bar=2\n")),
)
ROW = st.tuples(
    st.sampled_from(("smtp", "slow", "relay", "pipe1", "127.0.0.1:25", "cleanup", "a=b", "slow-er")),
    st.sampled_from(("inet", "unix", "unix", "unix", "pass", "fifo", "udp")),
    st.sampled_from(("n", "-", "y", "n", "-", "-", "0")),
    st.sampled_from(("n", "-", "-", "-")),
    st.sampled_from(("n", "y", "n", "n")),
    st.sampled_from(("-", "60", "60?", "-", "5x")),
    st.sampled_from(("-", "0", "1", "20", "-")),
    st.sampled_from(("smtp", "smtpd", "lmtp", "pipe", "spawn", "local", "virtual", "/x/smtp", "error", "discard")),
    st.lists(OPTION, max_size=3).map(" ".join),
).map(lambda words: " ".join(words))
MASTER_LINES = st.one_of(ROW, ROW, ROW, ROW, ROW, st.sampled_from(("# comment", "", "too few fields", " odd")))
MASTER = st.lists(MASTER_LINES, max_size=5).map(lambda rows: "\n".join(rows) + "\n")

LISTINGS = st.tuples(
    st.sampled_from(
        (
            *(["-n"], ["-n"], ["-n"], ["-nx"], ["-nf"], ["-nh"], ["-nH"], ["-x"], ["-nxf"], ["-M"], ["-Mf"], ["-Mx"]),
            *(["-Mxf"], ["-F"], ["-Ff"], ["-Fx"], ["-FH"], ["-Fh"], ["-P"], ["-Px"], ["-PH"], ["-Ph"], ["-Pf"]),
            *(["-n", "-C", "user"], ["-n", "-C", "service,builtin"], ["-n", "-o", "foo=$bar"], ["-d", "-C", "service"]),
        )
    ),
    st.lists(NAMES | st.sampled_from(("smtp", "smtp/inet", "*/unix", "*/*/command", "slow/unix/foo")), max_size=2),
).map(lambda parts: [*parts[0], *parts[1]])

TARGET = st.sampled_from(("smtp/inet", "slow/unix", "*/unix", "*/*", "nix/unix", "smtp"))
FIELD = st.sampled_from(("chroot", "wakeup", "process_limit", "command", "private", "service", "type", "bogus", "*"))
EDITS = st.one_of(
    st.lists(st.tuples(NAMES, st.sampled_from(("=", " = ")), VALUES).map("".join), min_size=1, max_size=3).map(
        lambda settings: ["-e", *settings]
    ),
    st.tuples(st.sampled_from(("-X", "-#")), NAMES | st.sampled_from(("foo ", "", "foo=1")), NAMES).map(list),
    st.tuples(TARGET, ROW).map(lambda p: ["-M", f"{p[0]}={p[1]}"]),
    st.tuples(st.sampled_from(("-MX", "-M#")), TARGET).map(list),
    st.tuples(TARGET, FIELD, st.sampled_from(("y", "n", "5", "pipe -v {a b} -o x=1", "a b", "60?", ""))).map(
        lambda p: ["-F", f"{p[0]}/{p[1]}={p[2]}"]
    ),
    st.tuples(TARGET, NAMES, st.sampled_from(("1", "", "a b", "$x"))).map(lambda p: ["-P", f"{p[0]}/{p[1]}={p[2]}"]),
    st.tuples(TARGET, NAMES).map(lambda p: ["-PX", f"{p[0]}/{p[1]}"]),
)
