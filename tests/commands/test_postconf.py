"""postconf: the recorded answers of the real one, options, releases, and what only ours can do."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from postfixpy.commands import postconf
from postfixpy.config.parameters import RELEASES

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures/main.cf.d"
RECORDED = [
    (answers.parent.name, command)
    for answers in sorted(FIXTURES.glob("*/postconf-3.7.json"))
    for command in json.loads(answers.read_text())
]

Run = Callable[..., tuple[str, str, int]]


@pytest.fixture
def run(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run postconf in an empty directory; returns (standard output, standard error, exit status)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAIL_CONFIG", raising=False)
    monkeypatch.delenv("POSTFIXPY_VERSION", raising=False)
    monkeypatch.setenv("POSTFIXPY_PROFILE", "upstream")

    def command(*arguments: str, main: str | None = None, master: str | None = None) -> tuple[str, str, int]:
        for name, text in (("main.cf", main), ("master.cf", master)):
            if text is not None or not Path(name).exists():
                Path(name).write_text(text or "")
        capfdbinary.readouterr()
        status = postconf.main(["postconf", "-c", ".", *arguments])
        output, errors = capfdbinary.readouterr()
        return output.decode("utf-8", "surrogateescape"), errors.decode("utf-8", "surrogateescape"), status

    return command


@pytest.mark.parametrize(("name", "command"), RECORDED)
def test_recorded_answers_of_3_7(
    name: str, command: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAIL_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    for file in ("main.cf", "master.cf"):
        shutil.copy(FIXTURES / name / file, tmp_path)
    options = ["--postfix-version", "3.7", "--profile", "debian"]
    status = postconf.main(["postconf", *options, "-c", ".", *command.split()])
    output, errors = (data.decode() for data in capfdbinary.readouterr())
    assert [output, errors, status] == json.loads((FIXTURES / name / "postconf-3.7.json").read_text())[command]


def test_settings_only(run: Run) -> None:
    assert run("-n", main="relayhost = x\nbiff=no\n") == ("biff = no\nconfig_directory = .\nrelayhost = x\n", "", 0)


def test_named_parameters_in_the_order_asked_for(run: Run) -> None:
    output, errors, status = run("relayhost", "nothing", "biff", main="relayhost = x\n")
    assert (output, status) == ("relayhost = x\nbiff = yes\n", 0)
    assert errors == "postconf: warning: nothing: unknown parameter\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "-n"], "specify one of -d, -n"),
        (["-M", "-F"], "specify one of -F, -M"),
        (["-M", "-d"], "with option -M, do not specify -d"),
        (["-e"], "-e requires name=value argument"),
        (["-X"], "missing service argument"),
        (["-C", "bogus"], 'unknown -C option value "bogus" in "bogus"'),
        (["-o", "x", "biff"], "invalid parameter override: x: missing '=' after attribute name"),
        (["-T", "a", "-T", "b"], "At most one -T <mode> option may be specified"),
        (["--postfix-version", "9.9"], "unknown Postfix release: 9.9; specify 2.3 to 3.11"),
        (["--profile", "x"], "unknown profile: x; specify one of upstream, debian"),
        (["--profile"], "option --profile requires an argument"),
    ],
)
def test_refused_command_lines(run: Run, arguments: list[str], message: str) -> None:
    assert run(*arguments) == ("", f"postconf: fatal: {message}\n", 1)


def test_unknown_option_shows_the_usage(run: Run) -> None:
    output, errors, status = run("-E")
    assert (output, status) == ("", 1)
    assert errors.startswith("postconf: fatal: usage: postconf [-a (server SASL types)]")
    assert run("-z")[1].startswith("postconf: invalid option -- 'z'\npostconf: fatal: usage: ")
    assert "[-j (streaming JSON) ]" in run("-z")[1]
    assert "[-j" not in run("--postfix-version", "3.10", "-z")[1]


def test_missing_files(run: Run, tmp_path: Path) -> None:
    run(main="", master="")
    (tmp_path / "master.cf").unlink()
    assert postconf.main(["postconf", "-c", "./no", "-n"]) == 1
    os.rename("main.cf", "gone")
    assert postconf.main(["postconf", "-c", ".", "-d", "biff"]) == 0


def test_deprecated_settings_come_last(run: Run) -> None:
    main = "smtpd_use_tls = yes\nzoo = 1\n"
    assert run("-n", main=main)[1].splitlines() == [
        'postconf: warning: ./main.cf: support for parameter "smtpd_use_tls" will be removed; instead, specify '
        '"smtpd_tls_security_level"',
        "postconf: warning: ./main.cf: unused parameter: zoo=1",
        "postconf: warning: See https://www.postfix.org/DEPRECATION_README.html for details",
    ]
    assert run("-nq", main=main)[1] == ""


def test_messages_are_printable_ascii(run: Run) -> None:
    assert run("-n", main="foo = bé\x01\n")[1] == "postconf: warning: ./main.cf: unused parameter: foo=b???\n"


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_lists_its_defaults(run: Run, release: str) -> None:
    output, errors, status = run("--postfix-version", release, "-d")
    lines = output.splitlines()
    assert (errors, status) == ("", 0)
    assert lines == sorted(lines, key=lambda line: line.split(" = ")[0].removesuffix(" ="))
    assert f"mail_version = {release}." in output


def test_releases_differ(run: Run) -> None:
    main = "smtpd_banner = a   b\nrelayhost =\nfoo = 1\n"
    assert run("--postfix-version", "2.8", "-n", main=main)[:2] == (
        "config_directory = .\nrelayhost = \nsmtpd_banner = a   b\n",
        "",
    )
    assert run("--postfix-version", "3.7", "-n")[:2] == (
        "config_directory = .\nrelayhost =\nsmtpd_banner = a b\n",
        "postconf: warning: ./main.cf: unused parameter: foo=1\n",
    )


def test_release_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTFIXPY_VERSION", "2.6")
    assert run("-dh", "smtp_line_length_limit")[0] == "990\n"


def test_profiles(run: Run) -> None:
    assert run("-dh", "daemon_directory")[0] == "/usr/libexec/postfix\n"
    assert run("--profile=debian", "-dh", "daemon_directory")[0] == "/usr/lib/postfix/sbin\n"
    assert "cdb\n" in run("--profile", "debian", "-m")[0]
    assert "cdb\n" not in run("-m")[0]


def test_what_a_build_supports(run: Run) -> None:
    assert run("-a")[0] == "cyrus\ndovecot\n"
    assert run("-A")[0] == "cyrus\n"
    assert run("-l")[0] == "flock\nfcntl\ndotlock\n"
    assert run("-T", "public-key-algorithms")[0] == "dsa\necdsa\nrsa\n"
    assert run("-T", "x") == ("", "postconf: warning: unknown 'postconf -T' mode: x\n", 1)
    assert json.loads(run("--json", "-l")[0]) == ["flock", "fcntl", "dotlock"]


def test_origin(run: Run) -> None:
    main = "myhostname = mx.example.org\nsmtp_helo_name = $myhostname\n"
    master = "slow unix - - n - - smtp\n -o smtp_helo_name=slow.example.org\n"
    assert run("--origin", "smtp_helo_name", "relayhost", main=main, master=master)[0] == (
        "smtp_helo_name = $myhostname\n"
        "    set in ./main.cf, line 2\n"
        "    $myhostname = mx.example.org: set in ./main.cf, line 1\n"
        "    ./master.cf, line 1: slow/unix sets slow.example.org\n"
        "relayhost =\n"
        "    default since 2.3\n"
    )
    names = [line for line in run("-n", "--origin")[0].splitlines() if not line.startswith(" ")]
    assert names == ["config_directory = .", "myhostname = mx.example.org", "smtp_helo_name = $myhostname"]


def test_origin_goes_with_few_options(run: Run) -> None:
    assert run("--origin", "-M")[1:] == ("postconf: fatal: with option --origin, do not specify -M\n", 1)
    assert run("--origin", "biff=no")[1:] == ("postconf: fatal: with option --origin, do not specify name=value\n", 1)
    output = run("--origin", "-n", "-C", "user", main="a = $b\nb = 1\nbiff = $a\n")[0]
    assert [line for line in output.splitlines() if not line.startswith(" ")] == ["a = $b", "b = 1"]
    assert run("--origin", "-n", "relayhost")[0] == ""


def test_origin_as_json(run: Run) -> None:
    (document,) = json.loads(run("--origin", "--json", "smtputf8_enable")[0])
    assert document["kind"] == "compatibility default"
    assert document["expanded"] == "no"
    assert [link["name"] for link in document["references"]] == ["compatibility_level"]


def test_json(run: Run) -> None:
    main = 'smtpd_banner = say "hi"\n'
    master = "smtp inet n - n - - smtpd -o { biff = a b } -v\n"
    assert run("-nj", main=main, master=master)[0].splitlines()[1] == '{"smtpd_banner": "say \\"hi\\""}'
    assert json.loads(run("-n", "--json")[0]) == {"config_directory": ".", "smtpd_banner": 'say "hi"'}
    (row,) = json.loads(run("-M", "--json")[0])
    assert row["settings"] == {"biff": "a b"}
    assert row["arguments"] == ["-o", "biff=a b", "-v"]
    assert json.loads(run("-P", "--json")[0]) == {"smtp/inet/biff": "a b"}
    assert json.loads(run("-F", "--json", "smtp/inet/chroot")[0]) == [{"name": "smtp/inet/chroot", "value": "n"}]


def test_json_holds_what_the_text_holds(run: Run) -> None:
    main = b"foo = \xff $myhostname\nmyhostname = a.example\n".decode("utf-8", "surrogateescape")
    master = "x unix - - n - - smtp -o biff=$foo -o\nx unix y - n - 1 lmtp -- -o\n"
    Path("main.cf").write_bytes(main.encode("utf-8", "surrogateescape"))
    rows = json.loads(run("-Mx", "--json", master=master)[0])
    assert [row["process_limit"] for row in rows] == ["-", "1"]
    assert rows[0]["arguments"] == ["-o", "biff=\udcff a.example", "-o"]
    assert json.loads(run("-nh", "--json", "foo")[0]) == {"foo": "\udcff $myhostname"}
    assert [field["value"] for field in json.loads(run("-F", "--json", "*/*/process_limit")[0])] == ["-", "1"]
    lines = run("--json", "nothing")[1].splitlines()
    assert json.loads(lines[0]) == {"program": "postconf", "severity": "warning", "text": "nothing: unknown parameter"}
    output, errors, status = run("--json", "-M", "-F")
    assert (output, status) == ("", 1)
    assert json.loads(errors)["text"] == "specify one of -F, -M"
    assert json.loads(run("--json", "-z")[1].splitlines()[0])["text"] == "invalid option -- 'z'"


def test_editing(run: Run) -> None:
    main = "# top\nbiff = no\nmydestination = a\n  b\n  # inside\n  c\n"
    assert run("biff=yes", "zz=1", main=main) == ("", "", 0)
    assert Path("main.cf").read_text() == "# top\nbiff = yes\nmydestination = a\n  b\n  # inside\n  c\nzz = 1\n"
    run("-X", "mydestination")
    assert Path("main.cf").read_text() == "# top\nbiff = yes\n  # inside\nzz = 1\n"
    run("-#", "biff")
    assert Path("main.cf").read_text() == "# top\n#biff = yes\n  # inside\nzz = 1\n"
    run("-M", "smtp/inet=smtp inet n - n - - smtpd", master="")
    run("-F", "smtp/inet/chroot=y")
    run("-P", "smtp/inet/biff=no")
    assert Path("master.cf").read_text() == (
        "smtp       inet  n       -       y       -       -       smtpd\n    -o biff=no\n"
    )


def test_bounce_templates(run: Run) -> None:
    output, errors, status = run("-b", main="myhostname = h.example\ncompatibility_level = 3.6\n")
    assert (errors, status) == ("", 0)
    assert "This is the mail system at host h.example.\n" in output
    assert json.loads(run("-t", "--json")[0])["delay"]["charset"] == "us-ascii"
    assert json.loads(run("-b", "--json")[0])["verify"]["text"][0] == "This is the mail system at host h.example."
    assert run("-t", "./none")[1:] == ("postfix/bounce: fatal: open ./none: No such file or directory\n", 1)


@pytest.mark.parametrize("option", ["-b", "-t", "-m"])
def test_what_a_daemon_would_refuse(run: Run, option: str) -> None:
    main = "hash_queue_depth = x\n"
    assert run(option, main=main) == ("", "postconf: fatal: bad numerical configuration: hash_queue_depth = x\n", 1)
    if option != "-m":
        main = "maximal_queue_lifetime = x\n"
        text = "fatal: parameter maximal_queue_lifetime: bad time value or unit: x"
        assert run(option, main=main) == ("", f"postfix/bounce: {text}\n", 1)


def test_verbose(run: Run) -> None:
    master = "smtp inet n - n - - smtpd -o a=$b -o c=$a\n"
    lines = run("-nv", main="b = $c\n", master=master)[1].splitlines()
    assert [line for line in lines if "validates" in line] == [
        "postconf: $a in master.cf:smtp/inet validates a=value in master.cf:smtp/inet",
        "postconf: $b in master.cf:smtp/inet validates b=value in main.cf",
        "postconf: $c in main.cf validates c=value in master.cf:smtp/inet",
    ]
    assert "postconf: name_mask: subnet" in lines


def test_nothing_expensive_is_imported() -> None:
    program = (
        "import sys; from postfixpy.commands.postconf import main;"
        f"main(['postconf', '-c', {str(FIXTURES / 'stock-debian')!r}, '-n']);"
        "print(sorted({'asyncio', 'dataclasses', 're', 'typing', 'lark', 'socket', 'json'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done
