"""Shorter waits than a venue would like, for every fault."""

import pytest

import ingest.catalogue
import ingest.connection
import ingest.worker


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.connection, "_BACKOFF_S", 0.05)
    monkeypatch.setattr(ingest.connection, "_BACKOFF_MAX_S", 1.0)
    monkeypatch.setattr(ingest.connection, "_REFUSED_S", 0.1)
    monkeypatch.setattr(ingest.connection, "_LOGIN_POLL_S", 0.05)
    monkeypatch.setattr(ingest.connection, "_WATCH_S", 0.05)
    monkeypatch.setattr(ingest.catalogue, "_LOOK_S", 0.1)
    monkeypatch.setattr(ingest.worker, "_LOOK_S", 0.1)
