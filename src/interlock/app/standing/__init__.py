"""The quick answer of ``interlock run``: ``note`` reads it and needs next to nothing, ``leaving`` writes it."""
