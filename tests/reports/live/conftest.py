"""A session on the shared run, and a client of its routes; both are for reading."""

import os

import pytest
import torch
from starlette.testclient import TestClient

from dmzcli.reports.live.desk import Desk
from dmzcli.reports.live.routes import Routes
from dmzcli.reports.live.session import Session
from dmzcli.runs import Run

PORT = 8123


@pytest.fixture(scope="package")
def session(pristine, digits):
    before = os.getcwd()
    os.chdir(pristine)
    try:
        return Session(Run(pristine / "runs/tiny"), torch.device("cpu"), digits)
    finally:
        os.chdir(before)


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.close()


@pytest.fixture
def client(session, desk):
    return TestClient(Routes(session, desk).app(PORT), base_url=f"http://127.0.0.1:{PORT}")
