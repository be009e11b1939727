"""The ground the workers stand on: Redis, Postgres, settings, life cycle, logs, metrics.

The only folder that knows Redis.
"""
