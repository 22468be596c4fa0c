# Connections that go to a sibling, and those that come from one.

HANDOFF_VERSION = 1             # of the record that travels with a descriptor
