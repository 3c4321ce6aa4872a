"""The data plane's own parent: it keeps the proxy and the replicas alive from files, with or without the control plane.

It imports nothing else of interlock and needs the standard library alone. In a folder D it reads

- ``processes/NAME.json``: a program that shall run (see ``program.Program``); it ends when its file goes away;
- ``leases/NAME.json``: until when a candidate keeps its weight (see ``leases``);

and writes

- ``status/NAME.json``: the process as it is: ``pid`` and ``identity`` (of the stub, the leader of its process group),
  ``started`` (seconds since 1970), ``restarts``, ``generation``, ``grace``, ``state`` (``running``, ``backing_off``,
  ``stopping``), ``exit`` (the last exit code, null while unknown) and ``ailment`` (why it was ended, if it was);
- ``logs/NAME.log``: what the program printed; ``events.jsonl``: what supervise did, and why.
"""
