"""What smtp_tls_loglevel and its kin ask to be logged: numbers, or words from a list (TLS_README, postconf(5))."""

from postfixpy import log

SUMMARY, UNTRUSTED, PEERCERT, CERTMATCH, VERBOSE, CACHE, DEBUG, PACKETS, ALL_PACKETS, DANE = (
    1 << n for n in range(1, 11)
)
_ONE = SUMMARY
_TWO = _ONE | VERBOSE | CACHE | DEBUG
_THREE = _TWO | PACKETS
_FOUR = _THREE | ALL_PACKETS
_WORDS = {
    "0": 0,
    "none": 0,
    "1": _ONE,
    "routine": _ONE,
    "2": _TWO,
    "debug": _TWO,
    "3": _THREE,
    "ssl-expert": _THREE,
    **dict.fromkeys(("4", "ssl-developer", "5", "6", "7", "8", "9"), _FOUR),
    "summary": SUMMARY,
    "untrusted": UNTRUSTED,
    "peercert": PEERCERT,
    "certmatch": CERTMATCH,
    "verbose": VERBOSE,
    "cache": CACHE,
    "dane": DANE,
    "ssl-debug": DEBUG,
    "ssl-handshake-packet-dump": PACKETS,
    "ssl-session-packet-dump": PACKETS | ALL_PACKETS,
}


def log_mask(parameter: str, value: str) -> int:
    """The bits that `value` asks for; a word that does not exist makes it 0, with a warning that names `parameter`."""
    mask = 0
    for word in value.replace(",", " ").split():
        bits = _WORDS.get(word.lower())
        if bits is None:
            log.warning(f'unknown {parameter} value "{word}" in "{value}"')
            return 0
        mask |= bits
    return mask
