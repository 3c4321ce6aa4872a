"""Text that others wrote steers no terminal: colours at most, and only where somebody sees them."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.terminal import on_a_terminal

from interlock.cli.output import Line, Output
from interlock.cli.terminal import harmless, harmless_json

ESC = "\x1b"


@pytest.mark.parametrize(
    ("text", "plain", "coloured"),
    [
        ("epoch 1\tloss 0.2", "epoch 1\tloss 0.2", "epoch 1\tloss 0.2"),
        (f"{ESC}[1;31mred{ESC}[0m", "red", f"{ESC}[1;31mred{ESC}[0m{ESC}[0m"),
        (f"{ESC}[31mstays red", "stays red", f"{ESC}[31mstays red{ESC}[0m"),
        (f"{ESC}[38;5;9mx", "x", f"{ESC}[38;5;9mx{ESC}[0m"),
        (f"{ESC}[2Jgone", "\\x1b[2Jgone", "\\x1b[2Jgone"),
        (f"{ESC}]0;title\x07", "\\x1b]0;title\\x07", "\\x1b]0;title\\x07"),
        (f"{ESC}]8;;http://evil{ESC}\\link", "\\x1b]8;;http://evil\\x1b\\link", "\\x1b]8;;http://evil\\x1b\\link"),
        (f"{ESC}P$q{ESC}\\", "\\x1bP$q\\x1b\\", "\\x1bP$q\\x1b\\"),
        ("\x9b2J", "\\x9b2J", "\\x9b2J"),
        ("a\x08b\x7f\x00", "a\\x08b\\x7f\\x00", "a\\x08b\\x7f\\x00"),
        ("10%\r20%\r\nend", "10%\n20%\nend", "10%\n20%\nend"),
        ("user\u202e gnp.exe", "user\\u202e gnp.exe", "user\\u202e gnp.exe"),
        ("half \ud800", "half \\ud800", "half \\ud800"),
        ("größer … 数据 👩‍🔬", "größer … 数据 👩‍🔬", "größer … 数据 👩‍🔬"),
    ],
)
def test_what_steers_is_shown_and_not_done(text: str, plain: str, coloured: str) -> None:
    assert harmless(text) == plain
    assert harmless(text, keep_colours=True) == coloured


@given(st.text(st.characters() | st.sampled_from("\x1b[]m;0123\x9b\r\n")))
def test_nothing_but_tabs_and_line_feeds_controls_plain_text(text: str) -> None:
    controls = {letter for letter in harmless(text) if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")}
    assert controls <= {"\t", "\n"}
    assert {unicodedata.bidirectional(letter) for letter in harmless(text)}.isdisjoint(
        {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    )


@given(st.text(st.characters() | st.sampled_from("\x1b[]m;0123\x9b\r\n")))
def test_with_colours_every_escape_is_one(text: str) -> None:
    shown = harmless(text, keep_colours=True)
    for piece in shown.split(ESC)[1:]:
        code, end, _ = piece.removeprefix("[").partition("m")
        assert piece.startswith("[")
        assert end
        assert set(code) <= set("0123456789;:")
    assert ESC not in shown or shown.endswith(f"{ESC}[0m")


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_json_says_the_same_in_harmless_letters(value: dict) -> None:
    line = harmless_json(value)
    assert json.loads(line) == value
    assert harmless(line) == line
    assert "\n" not in line


def test_lines_of_any_kind_are_harmless(capsys) -> None:
    evil = f"commit {ESC}]0;owned\x07 {ESC}[31mred"
    Output().say(Line(evil))
    Output().note(Line(evil))
    Output().complain(Line(evil))
    Output().repeat(evil)
    captured = capsys.readouterr()
    shown = "commit \\x1b]0;owned\\x07 red\n"
    assert (captured.out, captured.err) == (shown * 3, shown)


EVIL = """
from interlock.cli.output import Line, Output
evil = "a\\x1b[2J\\x1b[32mgreen\\u202e"
Output().repeat(evil)
Output().say(Line(evil, "bad"))
"""


def test_a_terminal_shows_the_colours_of_a_stage_and_obeys_nothing_else() -> None:
    shown = on_a_terminal(EVIL)
    assert f"a\\x1b[2J{ESC}[32mgreen\\u202e{ESC}[0m\r\n" in shown
    assert f"{ESC}[1;31ma\\x1b[2Jgreen\\u202e{ESC}[0m" in shown
    assert f"{ESC}[2J" not in shown


def test_without_colours_a_terminal_gets_none(tmp_path) -> None:
    assert ESC not in on_a_terminal(EVIL, NO_COLOR="1")
