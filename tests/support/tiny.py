"""The tiny model under its old name, until no test asks for it."""

from bench.battery.tiny import *  # noqa: F403
