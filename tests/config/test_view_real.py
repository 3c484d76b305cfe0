"""Views against ``postconf -x`` of the real Postfix: the same value for every parameter."""

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from postfixpy.config import load
from postfixpy.config.inspect.text import line
from postfixpy.config.lines import decode

from .inspect import generated
from .inspect.generated import Case
from .inspect.real_postconf import Real, machine_release, prepare

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    program = Real(machine_release())
    yield program
    program.close()


@settings(
    max_examples=int(os.environ.get("POSTFIXPY_EXAMPLES", "100")),
    derandomize="POSTFIXPY_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@pytest.mark.timeout(3600)
@given(main=generated.MAIN)
def test_every_value(real: Real, main: str, log_lines: list[str]) -> None:
    case = Case({"main.cf": main, "master.cf": ""}, ["-c", "@DIR@", "-x"], {})
    status, output, _, _ = real.run(case)
    if status or "process_name" in main:
        return  # postconf evaluates the names of the host before it has set its own
    place = real.inside(f"{real.name}-d")
    prepare(case, place, str(place))
    expected = {}
    for text in decode(output).split("\n"):
        name, _, value = text.partition(" =")
        expected[name] = value.removeprefix(" ")
    view = load(str(place), release=real.release, profile="debian").view(process_name="postconf")
    for name, parameter in view.configuration.database.parameters.items():
        if name in ("process_id", "debugger_command", "service_name"):
            continue
        raw = view.raw(name) or ""
        value = raw if parameter.kind == "raw" else view.expand(raw)
        assert line(f"{name} = {value}").rstrip("\n") == f"{name} = {expected[name]}".rstrip(" "), main
    shutil.rmtree(place)
