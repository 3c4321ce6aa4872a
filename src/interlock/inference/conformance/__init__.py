"""``python -m interlock.inference.conformance URL`` tells whether a server speaks the V2 inference protocol.

Each case asks the server as a real client does, and says what was answered otherwise than the protocol or its public
clients want. What is asked is made from the model's own metadata, or given (``--request FILE``).
"""
