"""Pages for people: one template and one style sheet for what every package reports.

``content`` says what a page has, ``figures`` draws its charts, ``site`` makes HTML of it. A page
needs no other file and no network address.
"""
