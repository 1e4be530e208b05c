"""A sample system: a checkout that places orders, two instances that take them, and a stock.

``checkout.py`` speaks plain HTTP with the standard library and imports nothing of ours,
``orders.py`` uses the SDK, ``stock.js`` is Node.js without dependencies (``stock.py`` its twin).
Start it with ``pillion run -f`` on this folder, or watch it with ``pillion demo``.
"""
