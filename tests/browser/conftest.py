"""A page of the `dagster` that a module starts."""

import pytest

from chromium import SIZE, browser, shot
from dagster_ui import SECONDS

__all__ = ["browser", "shot"]


@pytest.fixture
def page(dagster, browser):
    with browser.new_context(viewport=SIZE, base_url=dagster.url) as context:
        opened = context.new_page()
        opened.set_default_timeout(SECONDS * 1000)
        yield opened
