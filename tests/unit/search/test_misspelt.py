"""Misspelt words that the gate 'golden' asks for."""

from __future__ import annotations

import random

import pytest

from bilten_orchestration.search.questions import misspelt


@pytest.mark.parametrize(
    ("title", "ending"), [("Evening", "ing"), ("Evenings", "ings"), ("Kindness", "ness")]
)
def test_an_ending_stays_what_it_is(title: str, ending: str) -> None:
    for seed in range(50):
        word = misspelt(random.Random(seed), title)
        assert word is not None
        assert word.endswith(ending)
        assert sorted(word) == sorted(title.lower())
        assert word != title.lower()
        assert word[0] == title[0].lower()
