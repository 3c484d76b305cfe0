"""static, inline, internal, texthash, environ, unix, fail."""

import pytest

from postfixpy.errors import FatalError
from postfixpy.lookup import Flags, TableError, open_table


def get(spec, key, settings, flags=Flags.MAPS):
    return open_table(spec, settings, flags=flags, surrogates=False).lookup(key)


def test_static(settings):
    assert get("static:OK", "any", settings) == "OK"
    assert get("static:{ two words }", "any", settings) == "two words"


def test_static_with_an_open_brace(settings):
    with pytest.raises(FatalError, match=r"bad static:name syntax: missing '\}' in"):
        get("static:{x", "any", settings)


def test_inline(settings):
    spec = "inline:{a=1, { B = two words }, {a = 3}}"
    assert get(spec, "a", settings) == "3"
    assert get(spec, "b", settings) == get(spec, "B", settings) == "two words"
    assert get(spec, "c", settings) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("{}", 'bad syntax: "inline:{}"; need "inline:{name=value...}"'),
        ("a=b", 'bad syntax: "inline:a=b"; need "inline:{name=value...}"'),
        ("{ }", 'empty table: "inline:{ }"; need "inline:{name=value...}"'),
        ("{a}", 'missing \'=\' after attribute name: "inline:{a}"; need "inline:{name=value...}"'),
    ],
)
def test_inline_syntax_errors(name, text, settings):
    with pytest.raises(FatalError) as caught:
        get("inline:" + name, "a", settings)
    assert str(caught.value) == text


def test_case_is_folded_as_the_table_was_opened(settings):
    assert get("inline:{ÀB=x}", "àb", settings) == "x"
    assert get("inline:{AB=x}", "ab", settings, Flags.LIST) is None
    settings.smtputf8_enable = False
    assert get("inline:{ÀB=x}", "àb", settings) is None
    assert get("inline:{ÀB=x}", "Àb", settings) == "x"


def test_a_key_that_is_not_utf8_is_not_there(settings, logged):
    assert get("static:x", "a\udcff", settings) is None
    assert logged == ['warning: static:x: non-UTF-8 key "a\udcff": malformed UTF-8 or invalid codepoint']


def test_a_value_that_is_not_utf8_is_an_error(settings, logged, tmp_path):
    settings.smtputf8_enable = False
    (tmp_path / "t").write_bytes(b"key \xff\n")
    spec = f"texthash:{tmp_path}/t"
    assert get(spec, "key", settings) == "\udcff"
    table = open_table(spec, settings)
    table.utf8 = True
    with pytest.raises(TableError):
        table.lookup("key")
    assert "non-UTF-8 value" in logged[0]


def test_texthash(settings, logged, tmp_path):
    path = tmp_path / "t"
    path.write_text('# c\nKey  a value \n  continued\n\n"q k" v\nlonely\nalias: x\nkey again\n x\n')
    spec = f"texthash:{path}"
    table = open_table(spec, settings, flags=Flags.MAPS | Flags.DUP_WARN)
    assert dict(table.items()) == {"key": "a value   continued", '"q k"': "v", "alias:": "x"}
    assert logged == [
        f"warning: {path}, line 6: expected format: key whitespace value -- ignoring this line",
        f'warning: {path}, line 7: record is in "key: value" format; is this an alias file?',
        f'warning: {path}, line 8: duplicate entry: "key"',
    ]
    with pytest.raises(FatalError, match='line 8: duplicate entry: "key"'):
        get(spec, "key", settings)


def test_environ(settings, monkeypatch):
    monkeypatch.setenv("postfixpy_test", "1")
    assert get("environ:x", "POSTFIXPY_TEST", settings) == "1"


def test_unix(settings):
    assert get("unix:passwd.byname", "root", settings).startswith("root:x:0:0:")
    assert get("unix:group.byname", "root", settings) == "root:x:0:"
    assert get("unix:passwd.byname", "no such user", settings) is None
    with pytest.raises(FatalError, match="unknown table: unix:x"):
        get("unix:x", "root", settings)


def test_fail(settings):
    with pytest.raises(TableError):
        get("fail:x", "key", settings)


def test_a_service_gets_a_surrogate(settings, logged):
    table = open_table("nosuch:/x", settings)
    with pytest.raises(TableError):
        table.lookup("key")
    assert logged == [
        "error: unsupported dictionary type: nosuch",
        "warning: nosuch:/x is unavailable. unsupported dictionary type: nosuch",
    ]
