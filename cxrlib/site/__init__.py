"""What people read and touch in a browser: static pages, which need no server and no network.

In come executed notebooks, the Markdown of `docs/`, committed results, released label tables and the simulation; out
come folders of HTML, scripts and pictures.
"""
