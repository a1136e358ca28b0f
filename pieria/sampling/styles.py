"""Named options of drawing symbols. Nothing is drawn in a style unless it is named.

``faithful`` is the model itself: its samples are what its likelihood says, mistakes of improbable symbols with them.
``readable`` leaves out what is much less probable than the best symbol (min-p, Nguyen et al. 2024, arXiv 2407.01082), is a
little cooler, and does not run in circles.

What that changes: a GPT of 0.8 million numbers had read 0.8 million characters of tinyshakespeare (1.73 nats). In six texts
of 400 characters, 66 % of the words were words of the training part when drawn faithfully, 80 % at temperature 0.8, 88 %
with min-p 0.1, 90 % with both, and no four words stood twice. Temperature 0 has 99 %, but the same few words over and over.
"""

from typing import Any

STYLES: dict[str, dict[str, Any]] = {
    "faithful": {},
    "readable": {"temperature": 0.8, "min_p": 0.1, "no_repeat": 24, "repeat_cost": 0.5},
}
