"""Pages of the reference documentation."""

from postfixpy.config.inspect.reference import entries, index, page

ENTRIES = {entry.name: entry for entry in entries()}


def test_a_page() -> None:
    text = page(ENTRIES["smtp_line_length_limit"], ["postfixpy/smtp/content.py"], ["compat/scenarios/smtp/long.txt"])
    assert text.splitlines()[:3] == ["# smtp_line_length_limit", "", ENTRIES["smtp_line_length_limit"].sentence]
    assert "* Type: number\n" in text
    assert "* In LMTP mode: [lmtp_line_length_limit](lmtp_line_length_limit.md)\n" in text
    assert "| 2.3 and earlier | `990` |\n| 2.9 | `998` |\n" in text
    assert "Read by postfixpy/smtp/content.py.\n" in text
    assert text.endswith("* compat/scenarios/smtp/long.txt\n")


def test_types_and_status() -> None:
    assert "* Type: time; a number without unit is seconds; at least 1 seconds\n" in page(ENTRIES["smtp_helo_timeout"])
    assert "* Deprecated since: 3.9\n* Replaced by: smtp_dns_support_level\n" in page(ENTRIES["disable_dns_lookups"])
    assert "computed on the machine" in page(ENTRIES["myhostname"])
    assert "## Default" not in page(ENTRIES["virtual_maps"])
    assert "read by nothing else yet" in page(ENTRIES["biff"])


def test_every_parameter_has_a_page_and_a_line() -> None:
    listing = index(list(ENTRIES.values()), {"biff": ["x"]})
    for name, entry in ENTRIES.items():
        assert page(entry).startswith(f"# {name}\n")
        assert f"[{name}]({name}.md)" in listing
    assert "our programs read 1 of the" in listing
