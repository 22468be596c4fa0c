"""What pserve does: load the application and the server of a paste file, and run one with the
other.  pserve.py FILE SERVER; what follows is what the harness says to a server of ours."""

import os
import sys

from paste.deploy import loadapp, loadserver

file, name = sys.argv[1:3]
conf = {"greeting": "good day"}
if "--ready-fd" in sys.argv:
    conf["told_fd"] = sys.argv[sys.argv.index("--ready-fd") + 1]
uri = f"config:{os.path.abspath(file)}"
application = loadapp(uri, global_conf=conf)
print("loaded here first")  # and not flushed
loadserver(uri, name=name, global_conf=conf)(application)
