"""What the page is told goes on, whatever one message holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from comemory.stream.contract import Message
from comemory.stream.engine import Engine
from comemory.stream.progress import learning
from comemory.stream.settings import read_live
from comemory.web.messages import Messages


def test_what_cannot_be_told_does_not_end_what_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "cameras" / "gate"
    folder.mkdir(parents=True)
    told = '{"started": 0, "running": true, "stage": "training", "message": "", "process": 1e400}'
    (folder / "learning.json").write_text(told, encoding="utf-8")
    engine = Engine(read_live(None, {"model": "nowhere", "out": str(tmp_path)}))
    messages = Messages(engine, None, lambda: learning(tmp_path))
    fault: Message = {"kind": "event", "camera": "gate", "change": "new", "event": {}}
    news: Message = {"kind": "state", "camera": "gate", "state": "live"}

    async def follow() -> list[Message]:
        with messages.listen() as waiting:
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

    messages = Messages(Engine(read_live(None, {"model": "nowhere", "out": str(tmp_path)})), None, broken)
    assert [messages.learning(), messages.learning()] == [[], []]
    (record,) = caplog.records
    assert "hunter2" not in record.getMessage()
