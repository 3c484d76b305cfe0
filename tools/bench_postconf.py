"""How long ``postconf -n`` takes, against ``python3 -c pass`` on the same machine in the same run.

usage: tools/bench_postconf.py [RUNS]

Prints the median of RUNS (default 40) alternating runs of each, their ratio, and the time to read a main.cf of 20,000
lines. The configuration is fixtures/main.cf.d/relay if it is there, else a few settings.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "import sys; sys.argv[0] = 'postconf'; from postfixpy.commands.postconf import main; sys.exit(main(sys.argv))"


def seconds(command: list[str]) -> float:
    """The wall-clock time of one run."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, env=environment)
    return time.perf_counter() - start


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        fixture = ROOT / "fixtures/main.cf.d/relay"
        if not fixture.is_dir():
            fixture = Path(directory)
            (fixture / "main.cf").write_text("myhostname = mail.example.org\nsmtpd_banner = $myhostname ESMTP\n")
            (fixture / "master.cf").write_text("smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\n")
        commands = {
            "python3 -c pass": [sys.executable, "-c", "pass"],
            "postconf -n": [sys.executable, "-m", "postfixpy", "postconf", "-c", str(fixture), "-n"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        seconds(commands["postconf -n"])  # compiles what is not yet compiled
        for _ in range(runs):
            for name, command in commands.items():
                times[name].append(seconds(command))
        medians = {name: statistics.median(each) for name, each in times.items()}
        for name, median in medians.items():
            print(f"{name:16} {median * 1000:6.1f} ms")
        print(f"ratio            {medians['postconf -n'] / medians['python3 -c pass']:6.2f}")

        from postfixpy.config import load

        big = Path(directory) / "big"
        big.mkdir()
        lines = (f"parameter_{number} = value {number}, $parameter_{number // 2}\n" for number in range(20000))
        (big / "main.cf").write_text("".join(lines))
        start = time.perf_counter()
        load(str(big))
        print(f"20,000 lines     {(time.perf_counter() - start) * 1000:6.1f} ms")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
