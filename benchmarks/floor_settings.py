"""The product's settings, with the one view of `benchmarks.floor_urls` in place of its own."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.floor_urls"
