"""May it be published: overfitting, copies, groups, robustness, cost, and what is not known."""

from pieria.audit.auditing import audit
from pieria.audit.card import card

__all__ = ["audit", "card"]
