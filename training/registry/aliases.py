"""Names in the registry that training and serving share; standard library only."""

CHAMPION, CHALLENGER, CANARY, SHADOW = "champion", "challenger", "canary", "shadow"
"""Aliases: what answers, what was made last, what answers a share, what scores copies."""
PREVIOUS, ROLLED_BACK, VERDICT = "previous_champion", "rolled_back", "canary_verdict"
"""Tags of a version: who was champion before it, that it was taken back and why, and what its
canary came to."""
ANCHOR_DAYS = 28
"""Age of the champion with which the gate compares too, beside that of today."""
