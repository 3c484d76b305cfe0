"""Ours against the real postconf of two releases, over generated configurations: same output, messages, status, files.

tools/fuzz_postconf.py goes through many more of them, and through more than one difference.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tools import real_root

from . import generated
from .generated import Case
from .real_postconf import Real, machine_release, run_ours

pytestmark = pytest.mark.real
EXAMPLES = int(os.environ.get("POSTFIXPY_EXAMPLES", "200"))
"""Cases of each test under each release; thousands with POSTFIXPY_EXAMPLES=5000."""

# The same cases in every run, unless more are asked for: tools/fuzz_postconf.py looks further, and makes small what
# differs, which would take minutes here.
THOROUGH = settings(
    max_examples=EXAMPLES,
    derandomize="POSTFIXPY_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@pytest.fixture(scope="module")
def newest() -> Iterator[Real]:
    if not real_root.available("3.11"):
        pytest.skip("no root of 3.11: tools/real_root.py makes it")
    program = Real("3.11")
    yield program
    program.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[Real]:
    release = machine_release()
    if not release:
        pytest.skip("no postconf of a known release is installed")
    program = Real(release)
    yield program
    program.close()


@pytest.fixture(scope="module", params=["machine", "newest"])
def real(request: pytest.FixtureRequest) -> Real:
    program: Real = request.getfixturevalue(request.param)
    return program


def compare(real: Real, case: Case) -> None:
    expected = real.run(case)
    ours = run_ours(case, real)
    if expected[0] >= 0:  # some broken input crashes the real one
        assert ours == expected, case


@THOROUGH
@pytest.mark.timeout(3600)
@given(case=generated.cases(generated.LISTINGS))
def test_listings(real: Real, case: Case) -> None:
    compare(real, case)


@THOROUGH
@pytest.mark.timeout(3600)
@given(case=generated.cases(generated.NEW_LISTINGS))
def test_new_listings(newest: Real, case: Case) -> None:
    compare(newest, case)


@THOROUGH
@pytest.mark.timeout(3600)
@given(case=generated.cases(generated.EDITS))
def test_edits(real: Real, case: Case) -> None:
    compare(real, case)


@THOROUGH
@pytest.mark.timeout(3600)
@given(case=generated.cases(generated.SOUP))
def test_any_options(real: Real, case: Case) -> None:
    compare(real, case)
