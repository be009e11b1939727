"""Upstox, API generation V3."""
