"""The end of programs that stand for replicas: HTTP on a Unix socket, answered by the ``Handler`` before it."""

SERVE = """
    def address_string(self):
        return "unix"
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
Server(sys.argv[2], Handler).serve_forever()
"""
