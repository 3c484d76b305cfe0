"""Text of unknown origin made fit to be shown or logged (printable(3))."""


def printable(text: str, *, utf8: bool) -> str:
    """`text` with "?" for each octet that is not printable ASCII or (with `utf8`: smtputf8_enable) part of UTF-8."""
    if text.isascii() and text.isprintable():
        return text
    if not utf8:
        octets = text.encode("utf-8", "surrogateescape")
        return "".join(chr(octet) if 32 <= octet < 127 else "?" for octet in octets)
    return "".join(c if " " <= c != "\x7f" and not "\ud800" <= c <= "\udfff" else "?" for c in text)
