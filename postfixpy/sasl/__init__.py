"""SASL mechanisms and credentials. Not built yet: see ARCHITECTURE.md."""
