"""Named options of drawing symbols. Nothing is drawn in a style unless it is named.

``faithful`` is the model itself: its samples are what its likelihood says, mistakes of improbable symbols with them.
``readable`` leaves out what is much less probable than the best symbol (min-p, Nguyen et al. 2024, arXiv 2407.01082), is a
little cooler, and does not run in circles.
"""

from typing import Any

STYLES: dict[str, dict[str, Any]] = {
    "faithful": {},
    "readable": {"temperature": 0.8, "min_p": 0.05, "no_repeat": 24, "repeat_cost": 0.5},
}
