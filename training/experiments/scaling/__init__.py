"""A scaling law from one's own runs: points become laws, advice and a page. No torch in here.

``points`` is what a run leaves behind, ``laws`` the forms and their fits, ``bootstrap`` their
uncertainty, ``curve`` what one axis says, ``advice`` what to grow next, ``study`` all of it,
``page`` the picture.
"""
