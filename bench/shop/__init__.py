"""A small web shop in Django, as such projects look: contrib apps, models, templates, admin.

Nothing here is made for the measurements but two things: `/` answers as `sites.plain.hello` does,
and every response says which process it comes from (`wsgi.py`).
"""
