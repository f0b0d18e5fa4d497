"""The language check finds what it is for, and finds nothing in the project."""

from __future__ import annotations

import pytest

import language


@pytest.mark.parametrize("rule", language.RULES, ids=lambda rule: rule.example)
def test_each_rule_finds_its_example(rule: language.Rule) -> None:
    assert rule.use in {use for _, _, use in language.findings(f"// First line.\n// This {rule.example} here.")}


def test_words_are_found_across_lines_of_a_comment_and_of_a_string() -> None:
    assert language.findings("/// apply() goes\n    /// on later") == [(1, "goes on later", "resume, continue")]
    assert language.findings('"apply() goes \\\n        on later"')
    assert language.findings('"apply() goes "\n        f"on later"')


def test_plain_english_passes() -> None:
    assert not language.findings("If there is no file, apply() resumes where it stopped. No one else uses the file.")


def test_no_text_of_the_project_has_words_to_avoid(capsys: pytest.CaptureFixture[str]) -> None:
    assert language.main() == 0, capsys.readouterr().out
