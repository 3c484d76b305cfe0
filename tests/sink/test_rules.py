"""The sink's script, line by line."""

import random

import pytest

from postfixpy.sink.rules import Script, parse_rule, parse_rules


def decide(script: Script, stage: str, *keys: str) -> str:
    rule = script.decide(stage, *keys)
    return rule.reply or rule.action


def test_first_match_decides() -> None:
    script = Script(parse_rules("# refusals\nrcpt refuse@* 550 5.1.1 no\n\nrcpt * 250 2.1.5 fine\n"))
    assert decide(script, "rcpt", "refuse@a") == "550 5.1.1 no"
    assert decide(script, "rcpt", "x@a") == "250 2.1.5 fine"
    assert decide(script, "mail", "refuse@a") == "ok"


def test_times_counts_each_address_apart() -> None:
    script = Script([parse_rule("rcpt * times=2 450 4.2.0 later")])
    answers = [decide(script, "rcpt", who) for who in ("a@x", "b@x", "a@x", "a@x", "b@x", "b@x")]
    assert answers == ["450 4.2.0 later"] * 3 + ["ok", "450 4.2.0 later", "ok"]


def test_odds_are_drawn_from_the_script_s_generator() -> None:
    def draw() -> list[str]:
        script = Script([parse_rule("dot * odds=30 drop")], random.Random(7))
        return [decide(script, "dot", "a@x") for _ in range(200)]

    assert draw() == draw()
    assert 30 <= draw().count("drop") <= 90


def test_any_recipient_of_the_transaction_matches_at_dot() -> None:
    script = Script([parse_rule("dot b@* close 421 4.3.0 bye")])
    assert decide(script, "dot", "a@x", "b@x") == "421 4.3.0 bye"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("rcpt *", "expected STAGE WHO ACTION"),
        ("lunch * drop", "unknown stage 'lunch'"),
        ("rcpt * times=x drop", "bad times=x"),
        ("rcpt * speed=1 drop", "bad speed=1"),
        ("rcpt * explode", "bad action 'explode'"),
        ("rcpt * close 99 hm", "bad action"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"line 2: {complaint}"):
        parse_rules(f"# comment\n{line}\n")
