"""Facts are kept in clear, so that none may hold a secret (law 10)."""

from __future__ import annotations

import pytest
from pydantic import PydanticSchemaGenerationError, ValidationError

from reconcilers.facts import FACTS, SettingsFacts, StepFacts, WelcomeFacts
from reconcilers.secret import Secret


def test_no_fact_can_be_declared_to_be_a_secret() -> None:
    assert FACTS
    with pytest.raises(PydanticSchemaGenerationError):

        class Leaky(StepFacts):
            step = "leaky"
            token: Secret


def test_marks_of_secrets_are_not_shown() -> None:
    shown = WelcomeFacts(state="sent", password="f111451d").shown()
    assert shown["state"] == "sent"
    assert "password" not in shown
    assert "handed" not in SettingsFacts(handed={"cockpit/OPENROUTER_API_KEY": "81d2"}).shown()


def test_a_secret_is_not_taken_for_a_text() -> None:
    with pytest.raises(ValidationError) as caught:
        WelcomeFacts(password=Secret("canary-81d2"))  # type: ignore[arg-type]
    assert "canary-81d2" not in str(caught.value)
