"""Messages to the page go on, whatever one of them holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from comemory.live.config import read_live
from comemory.live.contract import Message
from comemory.live.engine import Engine
from comemory.server.broadcaster import Broadcaster
from comemory.types import JSON


def test_a_message_that_cannot_be_sent_does_not_stop_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def learning() -> list[JSON]:
        raise OverflowError("of no use")

    engine = Engine(read_live(None, {"model": "nowhere", "out": str(tmp_path)}))
    messages = Broadcaster(engine, None, learning)
    fault: Message = {"kind": "event", "camera": "gate", "change": "new", "event": {}}
    news: Message = {"kind": "state", "camera": "gate", "state": "live"}

    async def follow() -> list[Message]:
        with messages.subscribe() as waiting:
            messages.start()
            found: list[Message] = []
            while {one["kind"] for one in found} != {"status", "state"}:
                for message in (fault, news):
                    engine.publish(message)
                found.append(await asyncio.wait_for(waiting.get(), 10))
            return found

    found = asyncio.run(follow())
    messages.stop()
    assert next(one for one in found if one["kind"] == "status")["learning"] == []
    assert "OverflowError" in caplog.text


def test_the_same_fault_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> list[object]:
        raise ValueError("rtsp://me:hunter2@gate/ is learning no more")

    messages = Broadcaster(Engine(read_live(None, {"model": "nowhere", "out": str(tmp_path)})), None, broken)
    assert [messages.learning(), messages.learning()] == [[], []]
    (record,) = caplog.records
    assert "hunter2" not in record.getMessage()
