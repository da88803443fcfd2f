"""The audit: its rounds, and the judgement on one user."""
