"""Elephant Room: navigation, nothing else. Start it with `elephant app` or `make app`."""

from curation import ui

ui.navigate().run()
