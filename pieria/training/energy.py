"""What learning costs: joules and grams of CO2, each with where the figure comes from."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

# Ember, Global Electricity Review 2024: world average of 2023. A grid of your own: PIERIA_GRID=grams per kWh.
WORLD_GRID = 480.0
WATTS_PER_CORE = 10.0  # thermal design power of one busy core of today's desktop and server processors, memory included
WATTS_OF_GPU = 250.0


def grid() -> tuple[float, str]:
    """Grams of CO2 equivalent a kWh, and who says so."""
    own = os.environ.get("PIERIA_GRID")
    if own is not None:
        return float(own), "PIERIA_GRID"
    return WORLD_GRID, "world average 2023, Ember Global Electricity Review 2024"
