"""The contracts: what travels between processes, and under which names. Pure; imports nothing of ours."""
