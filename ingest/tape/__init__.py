"""The tape: everything that enters the collector, in order, on disk, so that a replay gives the same stream.

`format` says what is in a file, `writer` appends it from a thread of its own, `recorder` is what ingest talks to,
`reader` finds tapes and reads them, `player` hands what was recorded to a collector again. `docs/tape.md` tells the
rest.
"""
