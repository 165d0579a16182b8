"""The scoring settings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from comemory.scoring import (
    ScoringSettings,
)


class TestScoringSettings:
    def test_no_channel_at_all_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="neither motion nor appearance"):
            ScoringSettings(motion=(), appearance=())

    def test_hand_designed_channels_have_no_penalty(self) -> None:
        spec = ScoringSettings(motion_penalty=0.5, appearance_penalty=2.0)
        assert [spec.penalty(channel) for channel in (*spec.motion, *spec.appearance)] == [0, 0, 0, 0.5, 2.0]
