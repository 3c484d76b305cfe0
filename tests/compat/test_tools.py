"""tools/replay.py on folders outside the repository."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCENARIO = """\
Refused at RCPT.
== server 127.0.0.11:25
> 220 server.example ESMTP
< EHLO
> 250 server.example
< MAIL
> 250 ok
< RCPT
> 550 5.1.1 no
< RSET
> 250 ok
< QUIT
> 221 bye
== request
nexthop = [127.0.0.11]
== recorded 3.7
wire 127.0.0.11:25 1
| EHLO client.example
--
| MAIL FROM:<sender@client.example>
--
| RCPT TO:<rcpt@server.example>
--
| RSET
--
| {last}
log 3A1B2C3D4E: to=<rcpt@server.example>, relay=127.0.0.11[127.0.0.11]:25, delay=#, delays=#, dsn=5.1.1, \
status=bounced (host 127.0.0.11[127.0.0.11] said: 550 5.1.1 no (in reply to RCPT TO command))
bounce: flags=0 original= recipient=rcpt@server.example offset=1 orcpt= notify=0 status=5.1.1 \
diag=smtp/550 5.1.1 no mta=dns/127.0.0.11 action=failed reason=host 127.0.0.11[127.0.0.11] said: \
550 5.1.1 no (in reply to RCPT TO command)
result 0
done 1
"""


def replay(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/replay.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


def test_identical(tmp_path: Path) -> None:
    (tmp_path / "area").mkdir()
    (tmp_path / "area/refused.txt").write_text(SCENARIO.replace("{last}", "QUIT"))
    done = replay(str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "1 scenarios, 1 recordings, 0 different\n"), done.stdout


def test_a_difference_is_shown_as_a_ladder(tmp_path: Path) -> None:
    path = tmp_path / "refused.txt"
    path.write_text(SCENARIO.replace("{last}", "NOOP"))
    done = replay(str(path))
    assert done.returncode == 1
    assert f"DIFFERENT {path} 3.7" in done.stdout
    rung = next(line for line in done.stdout.splitlines() if " > " in line)
    assert rung.split(" > ")[0].strip() == "| NOOP" and rung.split(" > ")[1].strip() == "| QUIT"


def test_no_such_folder() -> None:
    done = replay("/nowhere/at/all")
    assert done.returncode != 0 and "no such file or folder" in done.stderr and "Traceback" not in done.stderr


def test_no_recordings(tmp_path: Path) -> None:
    done = replay(str(tmp_path))
    assert done.returncode != 0 and "no recordings" in done.stderr
