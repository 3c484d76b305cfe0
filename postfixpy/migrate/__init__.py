"""Comparing, explaining and replaying configurations. Not built yet: see ARCHITECTURE.md."""
