"""From ``interlock.yaml`` to a frozen plan, and from a plan to cache keys that can be explained."""
