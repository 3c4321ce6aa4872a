"""Wires everything by hand. Only this folder names concrete edges.

``folder`` knows where things lie, ``reading`` opens what commands that only look need (kept light), ``local`` runs a
working tree without a server, ``server`` is the control plane.
"""
